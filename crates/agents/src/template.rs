//! Placeholders in definitions.

use std::collections::BTreeMap;

/// Names that a template may use.
pub(crate) const PLACEHOLDERS: [&str; 6] = ["model", "maxTurns", "baseUrl", "apiKey", "home", "promptFile"];

/// Values of one attempt; absent ones are not in it.
pub(crate) type Values = BTreeMap<&'static str, String>;

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// Fills a template in; `None` when a value named in it is absent. The template has been checked.
pub(crate) fn fill(template: &str, values: &Values) -> Option<String> {
    let mut out = String::with_capacity(template.len());
    for piece in pieces(template).ok()? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Name(name) => out.push_str(values.get(name)?),
        }
    }
    Some(out)
}

/// Says what is wrong with a template.
pub(crate) fn check(template: &str) -> Result<(), String> {
    for piece in pieces(template)? {
        if let Piece::Name(name) = piece
            && !PLACEHOLDERS.contains(&name)
        {
            return Err(format!("uses {{{name}}}, which is none of {}", PLACEHOLDERS.join(", ")));
        }
    }
    if template.contains('\0') { Err("has a null byte".to_owned()) } else { Ok(()) }
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut out = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push(Piece::Text(&rest[..at]));
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if after.starts_with(brace) {
            out.push(Piece::Text(brace));
            rest = &after[1..];
        } else if brace == "{" {
            let end = after.find('}').ok_or_else(|| format!("has an open brace in {template:?}"))?;
            out.push(Piece::Name(&after[..end]));
            rest = &after[end + 1..];
        } else {
            return Err(format!("has a single closing brace in {template:?} (write it twice)"));
        }
    }
    out.push(Piece::Text(rest));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_or_left_out() {
        let values = Values::from([("model", "m-1".to_owned())]);
        let rows = [
            ("plain", Some("plain")),
            ("--model={model}", Some("--model=m-1")),
            ("{model}{model}", Some("m-1m-1")),
            ("{{\"m\":\"{model}\"}}", Some("{\"m\":\"m-1\"}")),
            ("{maxTurns}", None),
        ];
        for (template, want) in rows {
            assert_eq!(check(template), Ok(()), "{template}");
            assert_eq!(fill(template, &values).as_deref(), want, "{template}");
        }
        for wrong in ["{prompt}", "{model", "}", "a}b", "{}"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
