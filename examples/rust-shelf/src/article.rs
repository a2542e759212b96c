use std::fmt;
use std::str::FromStr;

/// An article on the shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Article {
    /// Its name.
    pub name: String,
    /// Pieces in stock.
    pub quantity: u32,
    /// Price of one piece.
    pub price: Money,
}

/// An amount of money, exact to the cent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money {
    cents: u64,
}

impl Money {
    /// This many cents.
    pub fn from_cents(cents: u64) -> Self {
        Self { cents }
    }

    /// The amount in cents.
    pub fn cents(self) -> u64 {
        self.cents
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02}", self.cents / 100, self.cents % 100))
    }
}

impl FromStr for Money {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a price such as 12.50");
        let (whole, part) = text.split_once('.').ok_or_else(wrong)?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() != 2 {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let part: u64 = part.parse().map_err(|_| wrong())?;
        let cents = whole.checked_mul(100).and_then(|cents| cents.checked_add(part)).ok_or_else(wrong)?;
        Ok(Self { cents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        for (text, cents) in [("0.00", 0), ("12.50", 1250), ("0.05", 5)] {
            let money: Money = text.parse().unwrap();
            assert_eq!(money, Money::from_cents(cents));
            assert_eq!(money.to_string(), text);
        }
        for text in ["", "1", "1.5", "1.505", "-1.00", "a.bc", ".50", "99999999999999999999.00", "184467440737095517.00"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }
}
