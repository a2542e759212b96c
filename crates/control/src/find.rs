//! Finding a thing by what a person typed.

use cove_core::{Error, Result, SandboxId, SandboxInfo, SandboxState};

/// Something with an identifier and a name.
pub trait Findable {
    /// What it is called in messages.
    const WHAT: &'static str;
    /// Prefix of its identifiers.
    const PREFIX: &'static str;
    /// The command that lists them.
    const LISTED_BY: &'static str;
    /// The whole identifier.
    fn id(&self) -> &str;
    /// Its name.
    fn name(&self) -> &str;
    /// Whether it is living; a living one's name wins over that of ended ones.
    fn living(&self) -> bool;
}

impl Findable for SandboxInfo {
    const WHAT: &'static str = "sandbox";
    const PREFIX: &'static str = SandboxId::PREFIX;
    const LISTED_BY: &'static str = "cove sandbox list";

    fn id(&self) -> &str {
        self.id.as_str()
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn living(&self) -> bool {
        matches!(self.state, SandboxState::Creating | SandboxState::Running)
    }
}

/// Fewer characters of an identifier than this name nothing.
const SHORTEST: usize = 4;

/// The one that `text` names, tried in this order: whole identifier; name of a living one; name of the
/// newest ended one (`items` come newest first); unique beginning of the identifier, with or without
/// its type prefix; unique end of it, as short names show.
///
/// # Errors
/// `NotFound` when nothing fits, `Invalid` when several do.
pub fn find<'a, T: Findable>(items: &'a [T], text: &str) -> Result<&'a T> {
    let exact = items
        .iter()
        .find(|i| i.id() == text)
        .or_else(|| items.iter().find(|i| i.living() && i.name() == text))
        .or_else(|| items.iter().find(|i| i.name() == text));
    if let Some(item) = exact {
        return Ok(item);
    }
    let bare = text.strip_prefix(T::PREFIX).unwrap_or(text);
    if bare.len() >= SHORTEST {
        let rest = |item: &'a T| item.id().strip_prefix(T::PREFIX).unwrap_or_default();
        let fits: [fn(&str, &str) -> bool; 2] = [|id, text| id.starts_with(text), |id, text| id.ends_with(text)];
        for fits in fits {
            let found: Vec<&T> = items.iter().filter(|i| fits(rest(i), bare)).collect();
            match found[..] {
                [] => {}
                [one] => return Ok(one),
                _ => {
                    let names: Vec<&str> = found.iter().take(5).map(|i| i.id()).collect();
                    return Err(Error::invalid(format!("{text:?} fits several {} ids", T::WHAT))
                        .because(format!("Such as {}", names.join(", ")))
                        .next("Write more of the id, or the name"));
                }
            }
        }
    }
    Err(Error::not_found(format!("There is no {} {text:?}", T::WHAT))
        .next(format!("`{}` shows those there are", T::LISTED_BY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(&'static str, &'static str, bool);
    impl Findable for Thing {
        const WHAT: &'static str = "thing";
        const PREFIX: &'static str = "thg_";
        const LISTED_BY: &'static str = "list";
        fn id(&self) -> &str {
            self.0
        }
        fn name(&self) -> &str {
            self.1
        }
        fn living(&self) -> bool {
            self.2
        }
    }

    #[test]
    fn by_id_name_beginning_and_end() {
        let things = [
            Thing("thg_aaaa2222zz99", "box", false),
            Thing("thg_aaaa1111yy88", "box", true),
            Thing("thg_bbbb1111xx77", "other", false),
            Thing("thg_bbbb0000xx77", "bbbb", false),
        ];
        for (text, found) in [
            ("thg_bbbb1111xx77", Some(2)),
            ("box", Some(1)),
            ("other", Some(2)),
            ("bbbb", Some(3)),
            ("thg_aaaa2", Some(0)),
            ("aaaa1", Some(1)),
            ("yy88", Some(1)),
            ("thg_aaaa", None),
            ("xx77", None),
            ("aaa", None),
            ("", None),
            ("thg_", None),
            ("nothing", None),
        ] {
            let got = find(&things, text).ok().map(Findable::id);
            assert_eq!(got, found.map(|at: usize| things[at].0), "{text}");
        }
    }
}
