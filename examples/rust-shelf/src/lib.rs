//! A stock list: articles with a quantity and a price.

mod article;
mod error;
mod stock;

pub use article::{Article, Money};
pub use error::ReadError;
pub use stock::Stock;
