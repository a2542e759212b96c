//! One rule, read once.

use std::net::{IpAddr, Ipv6Addr};

use cove_core::{Error, HostRule, Result};

use super::Host;

/// A compiled [`HostRule`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// As written, for sentences.
    pub text: String,
    pub pattern: Pattern,
    /// `None` for the default ports.
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    Name(String),
    /// Everything below this name, with its leading dot.
    Below(String),
    Address(IpAddr),
}

impl Rule {
    pub(super) fn parse(rule: &HostRule) -> Result<Self> {
        let text = rule.0.as_str();
        let bad = |why: &dyn std::fmt::Display| {
            Error::invalid(format!("The host rule {:?} cannot be read: {why}", shown(text)))
                .next("Write example.com, *.example.com or an address, each with or without :port")
        };
        if text.contains("://") || text.contains('/') {
            return Err(bad(&"it is a URL or a network, not a host"));
        }
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // A bare IPv6 address, which has no room for a port.
        if let (false, Ok(address)) = (below, rest.parse::<Ipv6Addr>()) {
            let pattern = Pattern::Address(IpAddr::V6(address).to_canonical());
            return Ok(Self { text: text.to_owned(), pattern, port: None });
        }
        let (host, port) = Host::parse_with_port(rest).map_err(|e| bad(&e))?;
        let pattern = match (below, host) {
            (false, Host::Name(name)) => Pattern::Name(name),
            (true, Host::Name(name)) => Pattern::Below(format!(".{name}")),
            (false, Host::Address(address)) => Pattern::Address(address),
            (true, Host::Address(_)) => return Err(bad(&"nothing is below an address")),
        };
        Ok(Self { text: text.to_owned(), pattern, port })
    }

    pub(super) fn names(&self, host: &Host) -> bool {
        match (&self.pattern, host) {
            (Pattern::Name(own), Host::Name(name)) => own == name,
            (Pattern::Below(own), Host::Name(name)) => name.len() > own.len() && name.ends_with(own.as_str()),
            (Pattern::Address(own), Host::Address(address)) => own == address,
            _ => false,
        }
    }

    /// Whether what it allows includes the port: the one written, or 80 and 443.
    pub(super) fn allows_port(&self, port: u16) -> bool {
        self.port.map_or(matches!(port, 80 | 443), |own| own == port)
    }

    /// Whether what it blocks includes the port: the one written, or every one.
    pub(super) fn blocks_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    /// Whether it is written as `localhost` or something below it.
    pub(super) fn is_localhost(&self) -> bool {
        match &self.pattern {
            Pattern::Name(name) => Host::Name(name.clone()).is_localhost(),
            Pattern::Below(name) => name == ".localhost" || name.ends_with(".localhost"),
            Pattern::Address(_) => false,
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}
