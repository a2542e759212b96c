//! A compiled policy and its two decisions.

use std::fmt;
use std::net::IpAddr;

use cove_core::{EgressPolicy, Error, Result};

use super::rule::{Pattern, Rule};
use super::{Class, Host, classify, is_metadata};

/// Names of metadata services; they and everything below them are never reachable.
const METADATA_NAMES: &[&str] = &[
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.azure.internal",
    "metadata.azure.com",
    "metadata.platformequinix.com",
    "metadata.packet.net",
    "metadata.tencentyun.com",
    "metadata.oraclecloud.com",
];

/// An [`EgressPolicy`] whose rules have been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    allow: Vec<Rule>,
    block: Vec<Rule>,
    allow_private: bool,
}

/// A host and port that a rule lets through; its addresses are judged next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The rule as written.
    pub rule: String,
    /// Whether the rule names the port. Only then may something else than TLS go through a tunnel.
    pub port_named: bool,
    /// Which addresses it may lead to.
    pub reach: Reach,
}

/// Which addresses an allowed host may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Public ones.
    Public,
    /// The host's loopback.
    Loopback,
    /// This one, which the rule names.
    Exactly(IpAddr),
}

/// A refusal as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence that names the rule, without a final stop.
    pub reason: String,
    /// What would allow it, where anything can.
    pub next: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if let Some(next) = &self.next {
            write!(f, ". {next}")?;
        }
        Ok(())
    }
}

impl Refusal {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), next: None }
    }

    fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }
}

impl Policy {
    /// Reads every rule.
    ///
    /// # Errors
    /// `Invalid` for a rule that cannot be read or that allows a metadata service.
    pub fn compile(policy: &EgressPolicy) -> Result<Self> {
        let allow: Vec<Rule> = policy.allow.iter().map(Rule::parse).collect::<Result<_>>()?;
        let block: Vec<Rule> = policy.block.iter().map(Rule::parse).collect::<Result<_>>()?;
        for rule in &allow {
            let metadata = match &rule.pattern {
                Pattern::Name(name) => is_metadata_name(name),
                Pattern::Below(_) => false,
                Pattern::Address(address) => is_metadata(*address),
            };
            if metadata {
                return Err(Error::invalid(format!("The host rule {:?} names a metadata service", rule.text))
                    .next("Remove it: metadata services are never reachable from a sandbox"));
            }
        }
        Ok(Self { allow, block, allow_private: policy.allow_private })
    }

    /// Whether host and port may be reached, before any name is resolved.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(&self, host: &Host, port: u16) -> Result<Allowed, Refusal> {
        let metadata = match host {
            Host::Name(name) => is_metadata_name(name),
            Host::Address(address) => is_metadata(*address),
        };
        if metadata {
            return Err(Refusal::new(format!("{host} is a metadata service, which is never reachable from a sandbox")));
        }
        if let Some(rule) = self.block.iter().find(|rule| rule.names(host) && rule.blocks_port(port)) {
            return Err(Refusal::new(format!("The block rule {:?} refuses {host}:{port}", rule.text)));
        }
        let mut named = self.allow.iter().filter(|rule| rule.names(host)).peekable();
        if named.peek().is_none() {
            return Err(Refusal::new(format!("No rule allows {host}")).next(how_to_allow(host, port)));
        }
        let fitting: Vec<&Rule> = named.filter(|rule| rule.allows_port(port)).collect();
        // The most specific counts: one that names the port allows other protocols than TLS.
        let Some(rule) = fitting.iter().find(|rule| rule.port.is_some()).or_else(|| fitting.first()) else {
            return Err(Refusal::new(format!("No rule allows port {port} of {host}")).next(how_to_allow(host, port)));
        };
        let reach = self.reach(host, rule)?;
        Ok(Allowed { rule: rule.text.clone(), port_named: rule.port.is_some(), reach })
    }

    fn reach(&self, host: &Host, rule: &Rule) -> Result<Reach, Refusal> {
        let private = |what: String| {
            if self.allow_private {
                return Ok(());
            }
            Err(Refusal::new(format!("{what}, and private addresses are not allowed"))
                .next("To allow it, open the door with allowPrivate"))
        };
        match host {
            Host::Address(address) => {
                let class = classify(*address);
                match class {
                    Class::Global => {}
                    Class::Loopback | Class::Private | Class::LinkLocal | Class::Shared => {
                        private(format!("{host} is {} address", class.words()))?;
                    }
                    Class::Multicast | Class::Reserved | Class::Metadata => {
                        return Err(Refusal::new(format!(
                            "{host} is {} address, which is never reachable",
                            class.words()
                        )));
                    }
                }
                Ok(Reach::Exactly(*address))
            }
            Host::Name(_) if host.is_localhost() => {
                if !rule.is_localhost() {
                    return Err(Refusal::new(format!("{host} is the host itself, and no rule names it")));
                }
                private(format!("{host} is the host itself"))?;
                Ok(Reach::Loopback)
            }
            Host::Name(_) => Ok(Reach::Public),
        }
    }

    /// Whether every address that an allowed host resolved to may be reached.
    ///
    /// # Errors
    /// The refusal, already when one address of several may not: a mixed answer is how a name is
    /// turned against the inside.
    pub fn judge_addresses(
        &self,
        host: &Host,
        port: u16,
        allowed: &Allowed,
        addresses: &[IpAddr],
    ) -> Result<(), Refusal> {
        if addresses.is_empty() {
            return Err(Refusal::new(format!("{host} has no address")));
        }
        for address in addresses.iter().map(IpAddr::to_canonical) {
            let class = classify(address);
            let fine = match allowed.reach {
                Reach::Public => class == Class::Global,
                Reach::Loopback => class == Class::Loopback,
                Reach::Exactly(own) => own == address && class != Class::Metadata,
            };
            if !fine {
                let refusal = Refusal::new(format!("{host} leads to {address}, {} address", class.words()));
                return Err(match class {
                    Class::Metadata => refusal,
                    _ => refusal
                        .next("A rule for a name reaches public addresses only; a rule may name the address itself"),
                });
            }
            let blocked = |rule: &&Rule| rule.names(&Host::Address(address)) && rule.blocks_port(port);
            if let Some(rule) = self.block.iter().find(blocked) {
                return Err(Refusal::new(format!(
                    "{host} leads to {address}, which the block rule {:?} refuses",
                    rule.text
                )));
            }
        }
        Ok(())
    }
}

/// In the words of the command line; the text reaches people through logs and the agent's output.
fn how_to_allow(host: &Host, port: u16) -> String {
    let rule = match port {
        80 | 443 => host.to_string(),
        _ => format!("{host}:{port}"),
    };
    format!("To allow it: --allow-host {rule} (for checks --gate-host {rule})")
}

fn is_metadata_name(name: &str) -> bool {
    METADATA_NAMES.iter().any(|own| {
        name.strip_suffix(own).is_some_and(|rest| rest.is_empty() || (rest.ends_with('.') && own.contains('.')))
    })
}
