//! Model endpoints: which host an agent talks to.

use url::{Host, Url};

/// A base URL as an egress rule needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host as in a rule: brackets around IPv6.
    pub(crate) host: String,
    /// Port, the scheme's own when the URL has none.
    pub(crate) port: u16,
    /// Whether it names this machine.
    pub(crate) loopback: bool,
}

impl Endpoint {
    /// Reads an `http` or `https` base URL; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text.trim()).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let port = url.port_or_known_default()?;
        let (host, loopback) = match url.host()? {
            Host::Domain(name) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                let loopback = name == "localhost" || name.ends_with(".localhost");
                (name, loopback)
            }
            Host::Ipv4(address) => (address.to_string(), address.is_loopback()),
            Host::Ipv6(address) => (format!("[{address}]"), address.is_loopback()),
        };
        (!host.is_empty()).then_some(Self { host, port, loopback })
    }

    /// The egress rule for it.
    pub(crate) fn rule(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// `NO_PROXY` for a sandbox whose only way out is a proxy: its own loopback stays reachable for the
    /// servers that agents start, except under the very name by which the model is reached.
    pub(crate) fn no_proxy(&self) -> String {
        let names = ["localhost", "127.0.0.1", "::1"];
        let same = |name: &str| match name {
            // Clients read "localhost" as a suffix.
            "localhost" => self.host == name || self.host.ends_with(".localhost"),
            "::1" => self.host == "[::1]",
            _ => self.host == name,
        };
        names.into_iter().filter(|name| !same(name)).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_become_rules() {
        let rows = [
            ("http://127.0.0.1:4010", "127.0.0.1:4010", true, "localhost,::1"),
            ("http://localhost:11434/v1/", "localhost:11434", true, "127.0.0.1,::1"),
            ("http://model.localhost:8080/v1", "model.localhost:8080", true, "127.0.0.1,::1"),
            ("https://Gateway.Example.com/anthropic", "gateway.example.com:443", false, "localhost,127.0.0.1,::1"),
            ("http://user:secret@gw.example.com", "gw.example.com:80", false, "localhost,127.0.0.1,::1"),
            ("http://[::1]:9000", "[::1]:9000", true, "localhost,127.0.0.1"),
        ];
        for (url, rule, loopback, no_proxy) in rows {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!(endpoint.rule(), rule, "{url}");
            assert_eq!(endpoint.loopback, loopback, "{url}");
            assert_eq!(endpoint.no_proxy(), no_proxy, "{url}");
        }
        for wrong in ["", "127.0.0.1:4010", "ftp://example.com", "unix:///run/x", "http://"] {
            assert_eq!(Endpoint::parse(wrong), None, "{wrong}");
        }
    }
}
