//! What is really mounted in a container, by the kernel's own table.

use std::path::{Path, PathBuf};

use super::layout::Layout;

/// One line of `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    at: PathBuf,
    read_only: bool,
    kind: String,
    options: String,
}

fn lines(table: &str) -> Vec<Line> {
    let one = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(4);
        let (at, own) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, _source, options) = (right.next()?, right.next()?, right.next()?);
        let read_only = own.split(',').chain(options.split(',')).any(|option| option == "ro");
        Some(Line { at: unescaped(at), read_only, kind: kind.to_owned(), options: options.to_owned() })
    };
    table.lines().filter_map(one).collect()
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|digits| digits.iter().all(|b| (b'0'..=b'7').contains(b)));
        match (bytes[at], digits) {
            (b'\\', Some(digits)) => {
                out.push(digits.iter().fold(0_u32, |n, digit| n * 8 + u32::from(digit - b'0')) as u8);
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

/// What is not as the layout says; empty when all is.
pub fn differences(table: &str, layout: &Layout) -> Vec<String> {
    let lines = lines(table);
    // Of several at one place the last is seen.
    let seen = |at: &Path| lines.iter().rev().find(|line| line.at == at);
    let mut out = Vec::new();
    for view in &layout.views {
        match seen(&view.target) {
            None => out.push(format!("{} is not mounted", view.target.display())),
            Some(line) if view.read_only && !line.read_only => {
                out.push(format!("{} can be written", line.at.display()))
            }
            Some(_) => {}
        }
    }
    for memory in layout.memory.iter().chain(&layout.volumes) {
        let size = |line: &Line| line.options.split(',').find_map(|option| bytes(option.strip_prefix("size=")?));
        match seen(&memory.at) {
            Some(line) if line.kind == "tmpfs" => match size(line) {
                Some(size) if size <= memory.bytes.next_multiple_of(64 << 10) => {}
                _ => out.push(format!("{} is not bounded to {} bytes", memory.at.display(), memory.bytes)),
            },
            _ => out.push(format!("{} is not memory-backed", memory.at.display())),
        }
    }
    // What came along below something read-only.
    let declared = |at: &Path| {
        let views = layout.views.iter().map(|view| (view.target.as_path(), view.read_only));
        let memory = layout.memory.iter().chain(&layout.volumes).map(|memory| (memory.at.as_path(), false));
        let above = views.chain(memory).filter(|(target, _)| at.starts_with(target));
        above.max_by_key(|(target, _)| target.components().count())
    };
    for line in lines.iter().filter(|line| !line.read_only) {
        if let Some((target, true)) = declared(&line.at)
            && line.at != target
        {
            out.push(format!("{} can be written below the read-only {}", line.at.display(), target.display()));
        }
    }
    out
}

/// `64k`, `1g` or a number.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
100 90 0:50 / / ro,relatime - overlay overlay rw,lowerdir=x\n\
101 100 0:51 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=1024k,mode=1777\n\
102 100 8:1 /a /data/with\\040blank ro,relatime master:1 - ext4 /dev/x rw\n\
103 102 8:2 / /data/with\\040blank/below rw,relatime - ext4 /dev/y rw\n";

    #[test]
    fn reads_the_kernels_table() {
        let found = lines(TABLE);
        assert_eq!(found.len(), 4);
        assert_eq!(found[2].at, Path::new("/data/with blank"));
        assert!(found[0].read_only && found[2].read_only && !found[3].read_only);
        assert_eq!((found[1].kind.as_str(), bytes("1024k")), ("tmpfs", Some(1 << 20)));
        assert_eq!(bytes("3q"), None);
    }
}
