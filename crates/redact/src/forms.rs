//! The forms in which programs print a value.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// A form of a value, wiped when it is dropped.
pub type Form = Zeroizing<Vec<u8>>;

/// Lines of a value shorter than this are too common to be masked by themselves.
const LINE: usize = 12;

/// Every covered form of `value`, the value itself first. May contain duplicates.
pub fn of(value: &[u8]) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut add = |form: Vec<u8>| forms.push(Zeroizing::new(form));
    add(value.to_vec());
    for phase in 0..3 {
        add(base64(value, phase, false));
        add(base64(value, phase, true));
    }
    add(hexadecimal(value, b"0123456789abcdef"));
    add(hexadecimal(value, b"0123456789ABCDEF"));
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        // `encodeURIComponent` leaves a few marks as they are; RFC 3986's unreserved set does not.
        for kept in [b"-_.~".as_slice(), b"-_.!~*'()", b"-_.~/", b"-_.*"] {
            let once = percent(value, kept, digits);
            add(percent(&once, kept, digits));
            add(spaces_as_plus(&once));
            add(once);
        }
    }
    if let Ok(text) = std::str::from_utf8(value) {
        for ascii in [false, true] {
            add(json(text, ascii, false));
            add(json(text, ascii, true));
        }
        add(text.replace('\'', "'\\''").into_bytes());
        add(text.replace('\'', "'\"'\"'").into_bytes());
        add(double_quoted(text));
        for apostrophe in ["&#39;", "&apos;", "&#x27;", "'"] {
            add(xml(text, apostrophe));
        }
        let units: Vec<u16> = text.encode_utf16().collect();
        add(units.iter().flat_map(|unit| unit.to_le_bytes()).collect());
        add(units.iter().flat_map(|unit| unit.to_be_bytes()).collect());
        add(text.chars().rev().collect::<String>().into_bytes());
        if text.contains('\n') {
            add(text.replace('\n', "\r\n").into_bytes());
        }
    }
    for line in value.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() >= LINE && line.len() < value.len() {
            add(line.to_vec());
        }
    }
    forms
}

/// The characters that depend on the value alone when `phase` other bytes come before it.
fn base64(value: &[u8], phase: usize, url: bool) -> Vec<u8> {
    let padded: Zeroizing<Vec<u8>> =
        Zeroizing::new(std::iter::repeat_n(0, phase).chain(value.iter().copied()).collect());
    let engine = if url { &URL_SAFE_NO_PAD } else { &STANDARD_NO_PAD };
    let text = Zeroizing::new(engine.encode(&*padded).into_bytes());
    let first = (phase * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    text.get(first..last).unwrap_or_default().to_vec()
}

fn hexadecimal(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    value.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

fn percent(value: &[u8], kept: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * 2);
    for byte in value {
        if byte.is_ascii_alphanumeric() || kept.contains(byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
        }
    }
    out
}

/// `application/x-www-form-urlencoded` from a percent-encoded text.
fn spaces_as_plus(encoded: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"%20") {
            out.push(b'+');
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// A JSON string without its quotes; `html` as encoders do that escape `<`, `>`, `&` and `/`.
fn json(text: &str, ascii: bool, html: bool) -> Vec<u8> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '/' if html && ascii => out.push_str("\\/"),
            '<' | '>' | '&' if html => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if ascii && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.into_bytes()
}

/// Inside double quotes of a POSIX shell.
fn double_quoted(text: &str) -> Vec<u8> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.into_bytes()
}

fn xml(text: &str, apostrophe: &str) -> Vec<u8> {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', apostrophe).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_each_alignment_is_found_in_a_longer_text() {
        let value = b"correct-horse-battery";
        for before in 0..6 {
            for after in 0..4 {
                let text: Vec<u8> = [vec![b'x'; before], value.to_vec(), vec![b'y'; after]].concat();
                let encoded = STANDARD_NO_PAD.encode(&text).into_bytes();
                let form = base64(value, before % 3, false);
                assert!(form.len() >= value.len(), "most of it");
                assert!(encoded.windows(form.len()).any(|window| window == form), "{before} {after}");
            }
        }
    }

    #[test]
    fn the_forms_are_those_of_common_encoders() {
        let forms = of(b"p\"a$s w&rd/1+\xc3\xa9");
        for expected in [
            "p%22a%24s%20w%26rd%2F1%2B%C3%A9",
            "p%22a%24s+w%26rd%2F1%2B%C3%A9",
            "p%2522a%2524s%2520w%2526rd%252F1%252B%25C3%25A9",
            "p\\\"a$s w&rd/1+\u{e9}",
            "p\\\"a$s w&rd/1+\\u00e9",
            "p\\\"a$s w\\u0026rd\\/1+\\u00e9",
            "p\\\"a\\$s w&rd/1+\u{e9}",
            "p&quot;a$s w&amp;rd/1+\u{e9}",
            "70226124732077267264",
        ] {
            let found = forms.iter().any(|form| form.windows(expected.len()).any(|w| w == expected.as_bytes()));
            assert!(found, "{expected}");
        }
    }
}
