//! Connections to the outside, and the addresses that they never reach.
//!
//! What is asked, called and probed stands in the configuration or in a message of somebody else.
//! So the **address** that a connection is made to is looked at, after the name was resolved, and
//! just this address is connected to: a name that changes its mind in between leads nowhere else.
//! All clients of the agents are made here.
//!
//! Behind a proxy of the environment (`HTTPS_PROXY`), it is the proxy that resolves names.

use std::{
    error::Error as StdError,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    ClientBuilder, Method, RequestBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use tokio::net::{TcpStream, lookup_host};

mod addresses;
mod network;

pub use network::{Network, NotANetwork};

/// Redirects that are followed, all within one host.
const REDIRECTS_MAX: usize = 5;

/// Ends the name that stands for an address that is not reached: see [`Client::request`].
const REFUSED_NAME: &str = ".address-refused.invalid";

/// Which addresses may be reached.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// What the operator of this host has listed although it is refused by default.
    listed: Arc<[Network]>,
}

/// Why an address is not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} is refused: {why}; if it is meant, list its address in --outgoing-allow (SELFHEAL_OUTGOING_ALLOW) of this agent"
)]
pub struct Forbidden {
    what: String,
    why: &'static str,
}

impl Outgoing {
    /// Refuses what is refused by default, apart from what is listed.
    #[must_use]
    pub fn new(listed: impl IntoIterator<Item = Network>) -> Self {
        Self { listed: listed.into_iter().collect() }
    }

    /// Adds to what is listed.
    #[must_use]
    pub fn and(&self, more: impl IntoIterator<Item = Network>) -> Self {
        Self::new(self.listed.iter().copied().chain(more))
    }

    /// Says whether an address may be reached.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] says why not.
    pub fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        let Some(why) = self.refusal(address) else { return Ok(()) };
        Err(Forbidden { what: format!("the address {address}"), why })
    }

    fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let forms = addresses::forms(address);
        let is_listed = |it: &IpAddr| self.listed.iter().any(|network| network.contains(*it));
        if forms.iter().any(is_listed) {
            return None;
        }
        forms.iter().find_map(|it| addresses::refusal(*it))
    }

    /// Says whether the host of a URL may be reached, as far as that can be seen in the URL.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] when it names an address that is refused.
    pub fn check_url(&self, url: &Url) -> Result<(), Forbidden> {
        literal(url).map_or(Ok(()), |address| self.check(address))
    }

    /// Resolves a name to the addresses that may be reached.
    ///
    /// # Errors
    ///
    /// When there is none; [`is_forbidden`] tells whether that is because of what is refused.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
        self.reachable(host, found)
    }

    fn reachable(&self, name: &str, found: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        let mut refused = None;
        let mut kept = Vec::new();
        for address in found {
            match self.refusal(address.ip()) {
                None => kept.push(address),
                Some(why) => refused = Some((address.ip(), why)),
            }
        }
        if !kept.is_empty() {
            return Ok(kept);
        }
        let Some((address, why)) = refused else {
            let why = format!("`{name}` has no address");
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        };
        let what = if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            format!("the address {address}")
        } else {
            format!("`{name}`, which leads to {address},")
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, Forbidden { what, why }))
    }

    /// Connects to `host:port`.
    ///
    /// # Errors
    ///
    /// When it is not such a text, has no address that may be reached, or does not answer.
    pub async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let found: Vec<SocketAddr> = lookup_host(address).await?.collect();
        let host = address.rsplit_once(':').map_or(address, |it| it.0);
        TcpStream::connect(self.reachable(host, found)?.as_slice()).await
    }

    /// Makes a client that follows no redirects.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn client(&self, builder: ClientBuilder) -> Result<Client, reqwest::Error> {
        self.build(builder.redirect(Policy::none()))
    }

    /// Makes a client that follows redirects, but only within one host and port.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn client_within_host(&self, builder: ClientBuilder) -> Result<Client, reqwest::Error> {
        self.build(builder.redirect(Policy::custom(|attempt| {
            let is_same = attempt
                .previous()
                .first()
                .is_some_and(|it| authority(it) == authority(attempt.url()));
            if !is_same || REDIRECTS_MAX < attempt.previous().len() {
                attempt.stop()
            } else {
                attempt.follow()
            }
        })))
    }

    fn build(&self, builder: ClientBuilder) -> Result<Client, reqwest::Error> {
        let http = builder.dns_resolver(Arc::new(self.clone())).build()?;
        Ok(Client { http, outgoing: self.clone() })
    }
}

impl Resolve for Outgoing {
    fn resolve(&self, name: Name) -> Resolving {
        let outgoing = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            if let Some(error) = refused_literal(&outgoing, name) {
                return Err(error.into());
            }
            // The client puts in the port of the URL.
            let addresses = Self::resolve(&outgoing, name, 0).await?;
            Ok::<Addrs, _>(Box::new(addresses.into_iter()))
        })
    }
}

/// A client for HTTP that reaches only what may be reached.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    outgoing: Outgoing,
}

impl Client {
    /// Begins a request.
    ///
    /// A URL that names a refused address becomes a request that fails with [`Forbidden`] when it
    /// is sent, as one with a name that leads there: clients resolve no addresses, so such a host
    /// is replaced by a name that our resolver refuses.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        let url = url.as_ref();
        let Ok(mut parsed) = Url::parse(url) else { return self.http.request(method, url) };
        let refused = literal(&parsed).filter(|it| self.outgoing.check(*it).is_err());
        let Some(address) = refused else { return self.http.request(method, parsed) };
        let name = match address {
            IpAddr::V4(it) => format!("v4-{:08x}{REFUSED_NAME}", it.to_bits()),
            IpAddr::V6(it) => format!("v6-{:032x}{REFUSED_NAME}", it.to_bits()),
        };
        match parsed.set_host(Some(&name)) {
            Ok(()) => self.http.request(method, parsed),
            // No such name can be wrong; and an empty URL is asked nowhere.
            Err(_no_name) => self.http.request(method, ""),
        }
    }

    /// Begins a GET.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Begins a POST.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }
}

/// Returns whether an error comes from an address that is refused, so that nothing was asked.
#[must_use]
pub fn is_forbidden(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<Forbidden>() {
            return true;
        }
        // The source of such an error is not what it holds, but the source of that.
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && inner.is::<Forbidden>()
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// Returns the address that a URL names instead of a host name.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Returns what is wrong with the address that this name stands for.
fn refused_literal(outgoing: &Outgoing, name: &str) -> Option<Forbidden> {
    let (kind, bits) = name.strip_suffix(REFUSED_NAME)?.split_once('-')?;
    let address = match kind {
        "v4" => IpAddr::V4(Ipv4Addr::from_bits(u32::from_str_radix(bits, 16).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(u128::from_str_radix(bits, 16).ok()?)),
    };
    outgoing.check(address).err()
}

fn authority(url: &Url) -> (Option<&str>, Option<u16>) {
    (url.host_str(), url.port_or_known_default())
}

#[cfg(test)]
mod tests;
