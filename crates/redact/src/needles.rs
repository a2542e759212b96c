//! Many exact byte strings at once.
//!
//! Wu and Manber's method (University of Arizona, TR-94-17): a table of four-byte blocks says how far
//! the search may skip, so most of the text is never looked at. Kept by ourselves because automata of
//! tens of thousands of needles fall out of the processor's caches and because a stream needs to know
//! which end of a piece may begin a needle.

use std::collections::HashMap;

use crate::forms::Form;

/// Values shorter than this cannot be masked: they occur by chance everywhere.
pub const SHORTEST: usize = 4;

/// Length of a block.
const BLOCK: usize = 4;

/// Longest prefix of a needle that the table looks at; longer skips gain little.
const WINDOW: usize = 24;

/// Lengths from which on a set of its own is worth its pass: one short value would make every skip
/// short.
const CLASSES: [usize; 3] = [16, 8, SHORTEST];

/// Byte strings of at least [`SHORTEST`] bytes.
#[derive(Default)]
pub struct Needles(Vec<Set>);

impl Needles {
    /// Takes those that are long enough; equal ones once.
    pub fn new(mut needles: Vec<Form>) -> Self {
        let mut sets = Vec::new();
        for least in CLASSES {
            let (of_class, shorter) = needles.into_iter().partition(|needle| needle.len() >= least);
            sets.push(Set::new(of_class));
            needles = shorter;
        }
        sets.retain(|set| set.window > 0);
        Self(sets)
    }

    /// Calls `found` with start and end at every place where one is, of those in one set the longest.
    pub fn find(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        for set in &self.0 {
            set.find(text, &mut found);
        }
    }

    /// The first place from which the rest of `text` is the beginning of a needle but not all of one.
    pub fn unfinished(&self, text: &[u8]) -> Option<usize> {
        self.0.iter().filter_map(|set| set.unfinished(text)).min()
    }
}

/// Needles of about one length.
struct Set {
    needles: Vec<Form>,
    /// Length of the shortest, at most [`WINDOW`]; 0 without needles.
    window: usize,
    /// How far to go on after a block, by its hash.
    shift: Vec<u8>,
    bits: u32,
    /// Needles by the hash of their first four bytes, longest first.
    by_start: HashMap<u32, Vec<u32>>,
    /// First one, two and three bytes of each.
    starts: [Vec<u32>; 3],
    longest: usize,
}

fn block(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn partial(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |key, byte| key << 8 | u32::from(*byte))
}

fn slot(block: u32, bits: u32) -> usize {
    (block.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize
}

impl Set {
    fn new(mut needles: Vec<Form>) -> Self {
        needles.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup_by(|a, b| **a == **b);
        let window = needles.iter().map(|needle| needle.len()).min().unwrap_or(0).min(WINDOW);
        let longest = needles.first().map_or(0, |needle| needle.len());
        if window == 0 {
            let starts = [Vec::new(), Vec::new(), Vec::new()];
            return Self { needles, window, shift: Vec::new(), bits: 0, by_start: HashMap::new(), starts, longest };
        }
        let entries = needles.len() * (window - BLOCK + 1);
        let bits = (usize::BITS - (entries * 16).leading_zeros()).clamp(12, 20);
        let furthest = u8::try_from(window - BLOCK + 1).unwrap_or(u8::MAX);
        let mut shift = vec![furthest; 1 << bits];
        let mut by_start: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut starts = [Vec::new(), Vec::new(), Vec::new()];
        for (index, needle) in (0..).zip(&needles) {
            for (at, bytes) in needle[..window].windows(BLOCK).enumerate() {
                let entry = &mut shift[slot(block(bytes), bits)];
                *entry = (*entry).min(u8::try_from(window - BLOCK - at).unwrap_or(u8::MAX));
            }
            by_start.entry(block(needle)).or_default().push(index);
            for (length, set) in (1..).zip(&mut starts) {
                set.push(partial(&needle[..length]));
            }
        }
        for set in &mut starts {
            set.sort_unstable();
            set.dedup();
        }
        Self { needles, window, shift, bits, by_start, starts, longest }
    }

    fn find(&self, text: &[u8], found: &mut impl FnMut(usize, usize)) {
        let mut at = self.window - BLOCK;
        while let Some(bytes) = text.get(at..at + BLOCK) {
            let shift = self.shift[slot(block(bytes), self.bits)];
            if shift > 0 {
                at += usize::from(shift);
                continue;
            }
            let start = at + BLOCK - self.window;
            if let Some(length) = self.at(&text[start..]) {
                found(start, start + length);
            }
            at += 1;
        }
    }

    /// Length of the longest needle that `text` begins with.
    fn at(&self, text: &[u8]) -> Option<usize> {
        let candidates = self.by_start.get(&block(text))?;
        let needles = candidates.iter().map(|index| &self.needles[*index as usize]);
        needles.into_iter().find(|needle| text.starts_with(needle)).map(|needle| needle.len())
    }

    fn unfinished(&self, text: &[u8]) -> Option<usize> {
        let first = text.len().saturating_sub(self.longest.saturating_sub(1));
        (first..text.len()).find(|at| self.begins(&text[*at..]))
    }

    fn begins(&self, rest: &[u8]) -> bool {
        if rest.len() < BLOCK {
            return self.starts[rest.len() - 1].binary_search(&partial(rest)).is_ok();
        }
        let Some(candidates) = self.by_start.get(&block(rest)) else { return false };
        let mut needles = candidates.iter().map(|index| &self.needles[*index as usize]);
        needles.any(|needle| needle.len() > rest.len() && needle.starts_with(rest))
    }
}
