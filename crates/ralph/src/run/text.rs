//! Texts of others, shortened at character boundaries.

/// At most the first `bound` bytes.
pub(crate) fn head(text: &str, bound: usize) -> &str {
    let mut end = bound.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// At most the last `bound` bytes.
pub(crate) fn tail(text: &str, bound: usize) -> &str {
    let mut begin = text.len() - bound.min(text.len());
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    &text[begin..]
}

/// Shortens in place, with a mark where something is missing.
pub(crate) fn cut(text: &mut String, bound: usize) {
    if text.len() > bound {
        text.truncate(head(text, bound).len());
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_inside_a_character() {
        assert_eq!((head("aäb", 2), tail("aäb", 2), head("", 5), tail("ab", 9)), ("a", "b", "", "ab"));
        let mut text = "ääää".to_owned();
        cut(&mut text, 5);
        assert_eq!(text, "ää…");
    }
}
