//! From a judged name to a connection: resolve once, judge every address, connect to one of those.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::doors::Shared;
use crate::verdict::{Allowed, Host, Reach, Refusal, is_metadata};

/// Turns names into addresses.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Every address of a name. The caller sets the deadline.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The host's own resolver, with its `hosts` file and its search order.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|at| at.ip()).collect())
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    Unreachable(String),
    TimedOut,
}

/// Addresses of one name that are tried.
const TRIES: usize = 8;

/// Judges, resolves, judges and connects. The decision is recorded.
pub(crate) async fn open(shared: &Shared, host: &Host, port: u16) -> Result<(TcpStream, Allowed), Failure> {
    let decided = decide(shared, host, port).await;
    match &decided {
        Ok((allowed, _)) => {
            let reason = format!("Allowed by the rule {:?}", allowed.rule);
            shared.record(host, port, true, &reason);
        }
        Err(Failure::Refused(refusal)) => shared.record(host, port, false, &refusal.reason),
        Err(_) => {}
    }
    let (allowed, addresses) = decided?;
    let mut last = Failure::TimedOut;
    for address in addresses.into_iter().take(TRIES) {
        match timeout(shared.options.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok((stream, allowed));
            }
            Ok(Err(error)) => last = Failure::Unreachable(format!("The connection failed: {error}")),
            Err(_) => last = Failure::TimedOut,
        }
    }
    Err(last)
}

async fn decide(shared: &Shared, host: &Host, port: u16) -> Result<(Allowed, Vec<SocketAddr>), Failure> {
    let allowed = shared.policy.judge(host, port).map_err(Failure::Refused)?;
    if let Host::Name(name) = host
        && let Some(target) = shared.overrides.get(name)
        && !is_metadata(target.ip())
    {
        // The operator of this host said where the name leads; that is not the sandbox's word.
        return Ok((allowed, vec![*target]));
    }
    let addresses: Vec<IpAddr> = match (host, allowed.reach) {
        (Host::Address(address), _) => vec![*address],
        (Host::Name(_), Reach::Loopback) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        (Host::Name(name), _) => {
            match timeout(shared.options.resolve_timeout, shared.options.resolver.resolve(name)).await {
                Ok(Ok(found)) if !found.is_empty() => found,
                Ok(Ok(_)) => return Err(Failure::Unreachable("The name has no address".to_owned())),
                Ok(Err(error)) => return Err(Failure::Unreachable(format!("The name could not be resolved: {error}"))),
                Err(_) => return Err(Failure::TimedOut),
            }
        }
    };
    shared.policy.judge_addresses(host, port, &allowed, &addresses).map_err(Failure::Refused)?;
    Ok((allowed, addresses.into_iter().map(|ip| SocketAddr::new(ip.to_canonical(), port)).collect()))
}
