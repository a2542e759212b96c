use std::process::ExitCode;

use shelf::Stock;

const USAGE: &str = "usage: shelf list FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("shelf: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What a command prints.
fn run(arguments: &[String]) -> Result<String, String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list", file] => Ok(list(&load(file)?)),
        _ => Err(USAGE.to_string()),
    }
}

fn load(file: &str) -> Result<Stock, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    text.parse().map_err(|error| format!("{file}: {error}"))
}

fn list(stock: &Stock) -> String {
    stock
        .articles()
        .iter()
        .map(|article| format!("{:<20} {:>6} {:>10}\n", article.name, article.quantity, article.price))
        .collect()
}
