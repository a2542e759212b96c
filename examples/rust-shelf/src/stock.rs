use std::str::FromStr;

use crate::{Article, ReadError};

/// All articles, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stock {
    articles: Vec<Article>,
}

impl Stock {
    /// The articles in their order.
    pub fn articles(&self) -> &[Article] {
        &self.articles
    }
}

impl FromStr for Stock {
    type Err = ReadError;

    /// Reads lines of `name,quantity,price`. Blank lines and comments (`#`) are passed over.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut stock = Self::default();
        for (index, content) in text.lines().enumerate() {
            let line = index + 1;
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let article = read(content).map_err(|what| ReadError { line, what })?;
            stock.articles.push(article);
        }
        Ok(stock)
    }
}

fn read(content: &str) -> Result<Article, String> {
    let fields: Vec<&str> = content.split(',').map(str::trim).collect();
    let [name, quantity, price] = fields[..] else {
        return Err(format!("three fields are needed, got {}", fields.len()));
    };
    if name.is_empty() {
        return Err("the name is empty".to_string());
    }
    Ok(Article {
        name: name.to_string(),
        quantity: quantity.parse().map_err(|_| format!("`{quantity}` is not a quantity"))?,
        price: price.parse()?,
    })
}
