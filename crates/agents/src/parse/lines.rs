//! Bytes to lines, within a bound.

/// Longest line that is read; a longer one is skipped and counted.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Collects lines that arrive in pieces. The result does not depend on where the pieces end.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    pending: Vec<u8>,
    skipping: bool,
    skipped: u64,
}

impl LineReader {
    /// Takes bytes and gives every line that they complete, without its newline.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            let (head, tail) = bytes.split_at(end);
            bytes = &tail[1..];
            if self.pending.is_empty() && !self.skipping && head.len() <= MAX_LINE_BYTES {
                line(head);
                continue;
            }
            self.keep(head);
            if !std::mem::take(&mut self.skipping) {
                line(&self.pending);
            }
            self.clear();
        }
        self.keep(bytes);
    }

    /// Gives a last line that has no newline.
    pub(crate) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !std::mem::take(&mut self.skipping) && !self.pending.is_empty() {
            line(&self.pending);
        }
        self.clear();
    }

    /// Lines skipped for their length.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        if self.pending.len() + bytes.len() > MAX_LINE_BYTES {
            self.skipping = true;
            self.skipped += 1;
            self.pending = Vec::new();
        } else {
            self.pending.extend_from_slice(bytes);
        }
    }

    fn clear(&mut self) {
        self.pending.clear();
        // One long line must not hold its memory for the rest of the attempt.
        self.pending.shrink_to(64 << 10);
    }
}
