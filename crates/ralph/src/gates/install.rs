//! Commands that only install what a lock file or a manifest names.

/// Program and the words after it that install; nothing else is taken for one.
const INSTALLS: [(&str, &[&str]); 22] = [
    ("npm", &["ci"]),
    ("npm", &["install"]),
    ("npm", &["i"]),
    ("pnpm", &["install"]),
    ("pnpm", &["i"]),
    ("yarn", &["install"]),
    ("bun", &["install"]),
    ("pip", &["install"]),
    ("pip3", &["install"]),
    ("python", &["-m", "pip", "install"]),
    ("python3", &["-m", "pip", "install"]),
    ("python", &["-m", "venv"]),
    ("python3", &["-m", "venv"]),
    ("virtualenv", &[]),
    ("uv", &["sync"]),
    ("uv", &["pip", "install"]),
    ("poetry", &["install"]),
    ("pipenv", &["install"]),
    ("cargo", &["fetch"]),
    ("go", &["mod", "download"]),
    ("bundle", &["install"]),
    ("composer", &["install"]),
];

/// Whether every part of the command line is such an installation: no other program of the repository is
/// called by it.
pub fn only_installs(command: &str) -> bool {
    let mut parts = command.split(['\n', ';', '&', '|']).map(str::trim).filter(|part| !part.is_empty()).peekable();
    if parts.peek().is_none() || command.contains(['`', '$', '(', '<', '>']) {
        return false;
    }
    parts.all(|part| {
        let words: Vec<&str> = part
            .split_whitespace()
            .filter(|word| !matches!(*word, "{" | "}"))
            .skip_while(|word| word.contains('=') && !word.starts_with('-'))
            .collect();
        let test = words.first() == Some(&"[") || words.first() == Some(&"test");
        let venv = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
        test || words.split_first().is_some_and(|(program, rest)| {
            let program = venv(program);
            INSTALLS.iter().any(|(name, begin)| *name == program && rest.starts_with(begin))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::only_installs;

    #[test]
    fn only_what_installs_is_taken_for_it() {
        for (command, want) in [
            ("npm ci", true),
            ("npm ci --prefer-offline && npm install x", true),
            ("[ -d node_modules ] || npm ci", true),
            ("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt", true),
            ("CI=1 pnpm install --frozen-lockfile", true),
            ("npm ci && npm test", false),
            ("npm run build", false),
            ("sh setup.sh", false),
            ("pip install $(cat x)", false),
            ("", false),
            ("cargo build", false),
        ] {
            assert_eq!(only_installs(command), want, "{command}");
        }
    }
}
