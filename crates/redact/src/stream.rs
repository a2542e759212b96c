//! Masking a stream in pieces.

use crate::MASK;
use crate::lines::LINE;
use crate::masker::Masker;
use crate::shapes::{Class, Found, KEY_BYTES, KEY_END, Shapes, end_of_key};

/// Applies a [`Masker`] to a stream. What comes out does not depend on how the stream was cut (lines
/// above 16 KiB aside, where the user has patterns of his own).
///
/// Between pieces it holds at most the bytes that may begin a secret: the longest value, 8 KiB for a
/// shape, or with patterns of the user a line of 16 KiB.
pub struct MaskStream {
    masker: Masker,
    /// Held back.
    carry: Vec<u8>,
    /// How many bytes at the beginning of `carry` belong to a secret whose mask is out already.
    covered: usize,
    /// Tokens that the stream is inside of, their mask is out; characters of these classes belong
    /// to them.
    runs: Vec<Class>,
    /// The stream is inside a private key whose mask is out: how many bytes from the beginning of
    /// `carry` it may still have.
    key: Option<usize>,
    /// The byte before `carry`.
    before: Option<u8>,
    masked: u64,
}

impl std::fmt::Debug for MaskStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaskStream")
    }
}

impl MaskStream {
    pub(crate) fn new(masker: Masker) -> Self {
        Self { masker, carry: Vec::new(), covered: 0, runs: Vec::new(), key: None, before: None, masked: 0 }
    }

    /// How many places were masked so far.
    pub fn masked(&self) -> u64 {
        self.masked
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.carry.len()
    }

    /// Takes the next piece and appends to `out` what is decided.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        if self.carry.is_empty() {
            self.advance(piece, out, false);
        } else {
            let mut text = std::mem::take(&mut self.carry);
            text.extend_from_slice(piece);
            self.advance(&text, out, false);
        }
    }

    /// The stream is over: appends what is left.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.carry);
        self.advance(&text, out, true);
        (self.covered, self.key, self.before) = (0, None, None);
        self.runs.clear();
    }

    fn advance(&mut self, text: &[u8], out: &mut Vec<u8>, last: bool) {
        let mut hold = text.len();
        let mut open = self.open(text, &mut hold);
        let (spans, undecided) = self.find(text, hold);
        hold = if last { text.len() } else { undecided };

        // Everything before `open` is out or belongs to a mask that is out.
        let mut shown = open.min(text.len());
        for (start, end) in spans {
            if start >= hold {
                // It is found again with what follows.
                break;
            }
            if start < open {
                open = open.max(end);
            } else {
                out.extend_from_slice(&text[shown..start]);
                out.extend_from_slice(MASK.as_bytes());
                self.masked += 1;
                open = end;
            }
            shown = open;
        }
        if shown < hold {
            out.extend_from_slice(&text[shown..hold]);
        }
        self.covered = open.saturating_sub(hold);
        if let Some(last) = hold.checked_sub(1) {
            self.before = text.get(last).copied();
        }
        self.key = self.key.map(|left| left.saturating_sub(hold));
        self.carry = text[hold..].to_vec();
    }

    /// How far the mask reaches that is out already.
    fn open(&mut self, text: &[u8], hold: &mut usize) -> usize {
        let mut open = self.covered;
        let from = self.covered;
        self.runs.retain(|class| {
            let length = text[from..].iter().take_while(|byte| class.has(**byte)).count();
            open = open.max(from + length);
            from + length == text.len()
        });
        if let Some(left) = self.key {
            let within = &text[..left.min(text.len())];
            let end = end_of_key(within, 0);
            open = open.max(end.unwrap_or(within.len()));
            if end.is_some() || left <= text.len() {
                self.key = None;
            } else {
                *hold = text.len().saturating_sub(KEY_END);
            }
        }
        open
    }

    /// The secrets in `text` in order of their start, and from where on nothing is decided.
    fn find(&mut self, text: &[u8], mut hold: usize) -> (Vec<(usize, usize)>, usize) {
        let known = &self.masker.0;
        let mut spans = Vec::new();
        let (mut runs, mut key) = (Vec::new(), None);
        known.needles.find(text, |start, end| spans.push((start, end)));
        hold = hold.min(known.needles.unfinished(text).unwrap_or(hold));
        if let (Some(shapes), None) = (&known.shapes, self.key) {
            shapes.find(text, self.before, |found| match found {
                Found::Secret(start, end) => spans.push((start, end)),
                Found::Run(start, class) => {
                    spans.push((start, text.len()));
                    runs.push((start, class));
                }
                Found::Key(start) => {
                    spans.push((start, text.len()));
                    key = key.or(Some(start));
                }
                Found::Undecided(start) => hold = hold.min(start),
                Found::Nothing => {}
            });
            hold = hold.min(Shapes::unfinished(text).unwrap_or(hold));
        }
        if !known.lines.is_empty() {
            known.lines.find(text, |start, end| spans.push((start, end)));
            hold = hold.min(known.lines.unfinished(text).unwrap_or(hold));
            // Patterns see whole lines only.
            let line = text[..hold].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if hold - line <= LINE {
                hold = line;
            }
        }
        if let Some(start) = key
            && start < hold
        {
            hold = hold.min(text.len().saturating_sub(KEY_END).max(start + 1));
            self.key = Some(start + KEY_BYTES);
        }
        for (start, class) in runs {
            if start < hold && !self.runs.contains(&class) {
                self.runs.push(class);
            }
        }
        spans.sort_unstable();
        (spans, hold)
    }
}
