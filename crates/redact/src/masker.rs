//! What is masked.

use std::borrow::Cow;
use std::sync::Arc;

use cove_core::error::Result;
use serde_json::Value;

use crate::forms::{self, Form};
use crate::lines::Lines;
use crate::needles::{Needles, SHORTEST};
use crate::shapes::Shapes;
use crate::stream::MaskStream;

/// Knows what must not be shown. Cheap to clone.
#[derive(Clone)]
pub struct Masker(pub(crate) Arc<Known>);

pub(crate) struct Known {
    pub needles: Needles,
    pub shapes: Option<Shapes>,
    pub lines: Lines,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masker")
    }
}

impl Default for Masker {
    /// Shapes alone.
    fn default() -> Self {
        let known = Known { needles: Needles::default(), shapes: Some(Shapes::new()), lines: Lines::default() };
        Self(Arc::new(known))
    }
}

/// Collects what shall be masked.
#[derive(Default)]
pub struct Builder {
    forms: Vec<Form>,
    patterns: Vec<String>,
    without_shapes: bool,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Builder")
    }
}

impl Builder {
    /// Masks a value in every covered form. False when it is shorter than
    /// [`SHORTEST`](crate::SHORTEST) bytes and so cannot be masked.
    pub fn value(&mut self, value: &[u8]) -> bool {
        let value = value.trim_ascii();
        if value.len() < SHORTEST {
            return false;
        }
        self.forms.extend(forms::of(value));
        true
    }

    /// Masks what a regular expression matches within a line.
    pub fn pattern(&mut self, pattern: &str) {
        self.patterns.push(pattern.to_owned());
    }

    /// Leaves the shapes of well-known credentials alone.
    pub fn without_shapes(&mut self) {
        self.without_shapes = true;
    }

    /// # Errors
    /// `Invalid` with the pattern that cannot be used.
    pub fn build(self) -> Result<Masker> {
        let lines = Lines::new(self.patterns.iter().map(String::as_str))?;
        let shapes = (!self.without_shapes).then(Shapes::new);
        Ok(Masker(Arc::new(Known { needles: Needles::new(self.forms), shapes, lines })))
    }
}

impl Masker {
    /// Nothing but what is added, and shapes.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// For a stream that comes in pieces.
    pub fn stream(&self) -> MaskStream {
        MaskStream::new(self.clone())
    }

    /// The whole of a text, and how many places were masked.
    pub fn mask_counted(&self, text: &[u8]) -> (Vec<u8>, u64) {
        let mut stream = self.stream();
        let mut out = Vec::with_capacity(text.len());
        stream.push(text, &mut out);
        stream.finish(&mut out);
        (out, stream.masked())
    }

    /// The whole of a text.
    pub fn mask(&self, text: &[u8]) -> Vec<u8> {
        self.mask_counted(text).0
    }

    /// The whole of a text; borrowed when there is nothing to mask.
    pub fn mask_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.mask_counted(text.as_bytes()) {
            (_, 0) => Cow::Borrowed(text),
            (masked, _) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        }
    }

    /// Every string in a JSON document, keys included. Returns how many places were masked.
    pub fn mask_json(&self, value: &mut Value) -> u64 {
        match value {
            Value::String(text) => {
                let (masked, count) = self.mask_counted(text.as_bytes());
                if count > 0 {
                    *text = String::from_utf8_lossy(&masked).into_owned();
                }
                count
            }
            Value::Array(items) => items.iter_mut().map(|item| self.mask_json(item)).sum(),
            Value::Object(fields) => {
                let mut count = 0;
                let keys: Vec<String> =
                    fields.keys().filter(|key| self.mask_counted(key.as_bytes()).1 > 0).cloned().collect();
                for key in keys {
                    if let Some(inner) = fields.remove(&key) {
                        count += 1;
                        fields.insert(self.mask_text(&key).into_owned(), inner);
                    }
                }
                count + fields.values_mut().map(|inner| self.mask_json(inner)).sum::<u64>()
            }
            _ => 0,
        }
    }
}
