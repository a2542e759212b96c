//! Identifiers: a type prefix, then a time-sorted ULID in lowercase Crockford base 32.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn ulid() -> String {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let mut value = (millis << 80) | (rand::random::<u128>() & ((1 << 80) - 1));
    let mut out = [0_u8; 26];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    String::from_utf8_lossy(&out).into_owned()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The type prefix with its underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh identifier; later ones sort after earlier ones at millisecond resolution.
            #[allow(clippy::new_without_default, reason = "two defaults would differ")]
            pub fn new() -> Self {
                Self(format!("{}{}", $prefix, ulid()))
            }

            /// The whole identifier.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The last eight characters, for names of things that people see.
            pub fn short(&self) -> &str {
                &self.0[self.0.len() - 8..]
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let rest = text.strip_prefix($prefix).filter(|rest| {
                    rest.len() == 26 && rest.bytes().all(|b| ALPHABET.contains(&b))
                });
                match rest {
                    Some(_) => Ok(Self(text.to_owned())),
                    None => Err(Error::invalid(format!(
                        "{text:?} is not an identifier of the form {}<26 characters>", $prefix
                    ))),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// One run of a PRD on a repository.
    RunId, "run_"
);
id!(
    /// One sandbox, whatever its engine.
    SandboxId, "sbx_"
);
id!(
    /// One try at a story.
    AttemptId, "att_"
);
id!(
    /// One process started in a sandbox.
    ExecId, "exe_"
);
id!(
    /// One control plane; what it creates carries this as a label, and it collects nothing else.
    InstanceId, "ins_"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_order() {
        let first = RunId::new();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = RunId::new();
        assert!(first < second);
        assert_eq!(first.as_str().parse::<RunId>().unwrap(), first);
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        for bad in [
            "",
            "run_",
            "sbx_01m7zsxnc06gdpy34az9wqv4e6",
            "run_../../etc/passwd0000000000",
            "run_01m7zsxnc06gdpy34az9wqv4eU",
        ] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
