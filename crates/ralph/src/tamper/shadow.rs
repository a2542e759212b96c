//! New modules that checks would import instead of their own or the standard library's.
//!
//! Python looks first in the directory of the program, the working directory (`-m`) and `PYTHONPATH`:
//! a file `argparse.py` in one of these is imported by the test runner itself, and decides for it.

use std::collections::BTreeSet;

use cove_core::run::GateSpec;

use super::{Edit, EditKind};
use crate::gates::Tree;

/// Directories that modules are imported from by their bare names.
pub(super) struct Roots(BTreeSet<String>);

impl Roots {
    /// The usual ones, those that gates name, and those of loose test files.
    pub(super) fn new(gates: &[GateSpec], before: &dyn Tree, after: &dyn Tree) -> Self {
        let mut roots: BTreeSet<String> = ["", "src", "lib", "python"].map(str::to_owned).into();
        for gate in gates {
            for word in
                gate.command.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '"' | '\'' | '='))
            {
                for path in word.split(':') {
                    let path = path.trim_start_matches("./").trim_end_matches('/');
                    let directory =
                        if path.ends_with(".py") { path.rsplit_once('/').map_or("", |(d, _)| d) } else { path };
                    roots.insert(directory.to_owned());
                }
            }
        }
        let packages: BTreeSet<&str> = [before, after]
            .iter()
            .flat_map(|tree| tree.files())
            .filter_map(|path| path.strip_suffix("/__init__.py"))
            .collect();
        for path in before.files() {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            let is_test = name.ends_with(".py") && (name.starts_with("test") || name.ends_with("_test.py"));
            if (is_test || name == "conftest.py") && !packages.contains(directory) {
                roots.insert(directory.to_owned());
            }
        }
        Self(roots)
    }
}

/// The module whose place a new file takes.
pub(super) fn of(edit: &Edit, roots: &Roots) -> Option<&'static str> {
    if !matches!(edit.kind, EditKind::Added | EditKind::TypeChanged) {
        return None;
    }
    // The module itself, or a package of that name and everything in it.
    let parts: Vec<&str> = edit.path.split('/').collect();
    (0..parts.len()).find_map(|at| {
        let directory = parts[..at].join("/");
        let is_file = at + 1 == parts.len();
        let stem = parts[at].split('.').next().unwrap_or_default();
        let program = ["py", "pyc", "so", "pth"].iter().any(|ending| edit.path.ends_with(&format!(".{ending}")));
        let named = if is_file { stem } else { parts[at] };
        let found = MODULES.split_whitespace().chain(RUNNERS).find(|module| *module == named)?;
        // Folders such as `test` or `email` hold many things; only what Python would import counts.
        (program && roots.0.contains(&directory)).then_some(found)
    })
}

/// Test runners and what they import. `sitecustomize` and `usercustomize` are imported by every start.
const RUNNERS: [&str; 22] = [
    "pytest",
    "_pytest",
    "py",
    "pluggy",
    "iniconfig",
    "exceptiongroup",
    "xdist",
    "pytest_cov",
    "pytest_asyncio",
    "anyio",
    "coverage",
    "hypothesis",
    "nose",
    "nose2",
    "tox",
    "nox",
    "mock",
    "sitecustomize",
    "usercustomize",
    "setuptools",
    "pip",
    "mypy",
];

/// The standard library's modules (docs.python.org/3/py-modindex.html), `test` left out: a directory of
/// that name is everybody's.
const MODULES: &str = "
    __future__ _collections_abc _io _signal _thread _weakrefset _sitebuiltins abc aifc argparse array ast asynchat
    asyncio asyncore atexit audioop base64 bdb binascii bisect builtins bz2 cProfile calendar cgi cgitb chunk cmath
    cmd code codecs codeop collections colorsys compileall concurrent configparser contextlib contextvars copy copyreg
    crypt csv ctypes curses dataclasses datetime dbm decimal difflib dis distutils doctest email encodings ensurepip
    enum errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt getpass
    gettext glob graphlib grp gzip hashlib heapq hmac html http imaplib imghdr imp importlib inspect io ipaddress
    itertools json keyword linecache locale logging lzma mailbox mailcap marshal math mimetypes mmap modulefinder
    multiprocessing netrc nntplib ntpath nturl2path numbers opcode operator optparse os pathlib pdb pickle pickletools
    pipes pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile pyclbr pydoc
    pyexpat queue quopri random re readline reprlib resource rlcompleter runpy sched secrets select selectors shelve
    shlex shutil signal site smtplib sndhdr socket socketserver sqlite3 sre_compile sre_constants sre_parse ssl stat
    statistics string stringprep struct subprocess sunau symtable sys sysconfig syslog tabnanny tarfile telnetlib
    tempfile termios textwrap threading time timeit token tokenize tomllib trace traceback tracemalloc tty types
    typing unicodedata unittest urllib uuid venv warnings wave weakref webbrowser wsgiref xdrlib xml xmlrpc zipapp
    zipfile zipimport zlib zoneinfo";
