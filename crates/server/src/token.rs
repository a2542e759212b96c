//! What clients show over TCP.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Result};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

/// The token kept in `<state_dir>/token`, made on first use from 256 random bits.
///
/// # Errors
/// `Denied` when others may read the file, `Internal` when it cannot be read or written.
pub fn token(state_dir: &Path) -> Result<String> {
    let path = state_dir.join("token");
    let place = path.display();
    crate::place::private_directory(state_dir)?;
    let mut bits = [0_u8; 32];
    OsRng.try_fill_bytes(&mut bits).context(ErrorKind::Internal, "The system has no random numbers")?;
    let fresh: String = bits.iter().map(|b| format!("{b:02x}")).collect();
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            file.write_all(fresh.as_bytes()).context(ErrorKind::Internal, format!("{place} cannot be written"))?;
            return Ok(fresh);
        }
        Err(e) if e.kind() == IoKind::AlreadyExists => {}
        Err(e) => return Err(Error::internal(format!("{place} cannot be written")).because(e)),
    }
    let found = fs::metadata(&path).context(ErrorKind::Internal, format!("{place} cannot be read"))?;
    if found.mode() & 0o077 != 0 {
        return Err(Error::new(ErrorKind::Denied, format!("Others may read the token in {place}"))
            .next(format!("Remove {place}; a new token is made at the next start")));
    }
    let text = fs::read_to_string(&path).context(ErrorKind::Internal, format!("{place} cannot be read"))?;
    Ok(text.trim().to_owned())
}

/// A token in a form that is compared without telling by its time how much of it fits.
#[derive(Clone)]
pub(crate) struct Expected([u8; 32]);

impl Expected {
    /// # Errors
    /// `Invalid` for a token that could be guessed.
    pub(crate) fn new(token: &str) -> Result<Self> {
        if token.len() < 16 {
            return Err(Error::invalid("The token has fewer than 16 characters")
                .next("Leave COVE_TOKEN unset to have one made"));
        }
        Ok(Self(Sha256::digest(token).into()))
    }

    pub(crate) fn is(&self, shown: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        self.0.iter().zip(shown).fold(0, |different, (a, b)| different | (a ^ b)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_private_and_compared_whole() {
        let dir = tempfile::tempdir().unwrap();
        let first = token(dir.path()).unwrap();
        assert_eq!((first.len(), token(dir.path()).unwrap()), (64, first.clone()));
        let expected = Expected::new(&first).unwrap();
        assert!(expected.is(&first));
        for other in ["", &first[1..], &first.to_uppercase().replace('0', "1"), "x"] {
            assert!(!expected.is(other), "{other}");
        }
        assert!(Expected::new("short").is_err());
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(token(dir.path()).unwrap_err().kind(), ErrorKind::Denied);
    }
}
