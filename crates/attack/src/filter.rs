//! Seccomp filters that an attempt puts over itself.

use crate::calls;
use crate::report::{Refusal, check};

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// Puts a filter over this process that answers the mode's call with `EHWPOISON`; nothing for
/// `plain`.
pub fn witness(mode: &str) -> Result<(), Refusal> {
    let Some(name) = mode.strip_prefix("witness=") else { return Ok(()) };
    let number = calls::number(name).ok_or_else(|| Refusal::Absent(format!("no call {name} on this architecture")))?;
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    install(&[
        step(LOAD, 0, 0, 0),
        step(JUMP_EQUAL, 0, 1, number),
        step(RETURN, 0, 0, ERRNO | libc::EHWPOISON as u32),
        step(RETURN, 0, 0, ALLOW),
    ])
}

/// Puts a filter over this process that allows everything, as if that undid another.
pub fn allow_all() -> Result<(), Refusal> {
    install(&[step(RETURN, 0, 0, ALLOW)])
}

fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn install(program: &[libc::sock_filter]) -> Result<(), Refusal> {
    let mut program = program.to_vec();
    let filter = libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or(0), filter: program.as_mut_ptr() };
    // SAFETY: the program is valid while the kernel copies it.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        check(libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const filter, 0, 0).into())?;
    }
    Ok(())
}
