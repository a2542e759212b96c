//! Which system calls and files processes in a sandbox may use, for every engine alike.
//!
//! Three seccomp filters; of several answers that are not "allow" the newest filter's counts. The first
//! is an allow-list: what is not on it fails with `EPERM`. The second answers `ENOSYS` for calls whose
//! absence programs know how to handle (`clone3`, `openat2` and everything the list has never heard
//! of), because an older call that can be checked does the same. The third says "done" without doing
//! it to changes of the limit on core dumps, which programs make to have none: see [`limits::CORE`].
//!
//! The native engine installs them itself. A container engine is given a [`profile`] that allows at
//! least as much, and the guest installs the very same programs over it before anything else runs.

pub mod calls;
pub mod landlock;
pub mod limits;
pub mod profile;
pub mod program;
pub mod rules;
