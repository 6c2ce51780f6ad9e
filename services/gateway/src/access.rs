//! Who may come in, and what for.
//!
//! One table ([`table`]) says what each route needs; what is not in it is not reachable. Who a
//! caller is follows from his bearer token: that of the flags, one of ours ([`keyring`]), or one
//! of a provider ([`oidc`]). Where no token is asked for, callers of this host are taken for
//! its owner, or for somebody who may send events ([`local`]).

mod keyring;
mod layer;
mod local;
mod oidc;
mod principal;
mod rate;
pub(crate) mod table;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, StatusCode, Uri, header};
use bus::Bus;
use chrono::Utc;
use domain::{
    access::{self, RateLimits, Role, TokenState, token_hash},
    config::Config,
    span::Rates,
};
use service::{BoxError, Chain, outgoing::Outgoing};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    keyring::Keyring,
    oidc::Provider,
    rate::Limiter,
    table::{Load, Need, Route},
};
use crate::{
    problem::Problem,
    settings::{Token, Tokenless},
};

pub(crate) use self::{
    layer::{Peer, check},
    principal::{Principal, Proof},
};

/// Requests a second from a door's secret, where the configuration says nothing of events: far
/// more than a sender needs, and far less than would keep others out.
const INTEGRATION_RATE: u32 = 100;

/// Why somebody is not let in who shows nothing.
const TOKEN_MISSING: &str = "token_missing";

/// How long a start waits for the tokens.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);

/// Who came in; nobody whom we know at a route that proves its callers itself.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Option<Arc<Principal>>);

impl Caller {
    /// Returns who it is, if he may do what needs this role; for routes that look for themselves.
    pub(crate) fn require(&self, least: Role) -> Result<&Arc<Principal>, Problem> {
        let principal = self.require_any()?;
        covers(principal, least)?;
        Ok(principal)
    }

    /// Returns who it is, if we know him.
    pub(crate) fn require_any(&self) -> Result<&Arc<Principal>, Problem> {
        self.0.as_ref().ok_or_else(missing)
    }
}

/// Decides about every request. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The token of the flags.
    flag: Option<Token>,
    /// Who comes in without a token.
    tokenless: Tokenless,
    scheme: &'static str,
    /// Where the provider of tokens may be asked.
    outgoing: Outgoing,
    keyring: OnceLock<Keyring>,
    settings: RwLock<Settings>,
    limiter: Limiter,
    refusals: Limiter,
    /// How many refusals are logged: who knocks often must not fill the disk.
    refusals_logged: Rates,
    /// How often a sender with the secret of a door may come, if nothing else is said.
    integration_rate: Rates,
}

/// What the configuration says; nothing is known before it was read once.
#[derive(Clone, Debug, Default)]
struct Settings {
    is_known: bool,
    provider: Option<Arc<Provider>>,
    rate: Option<Arc<RateLimits>>,
}

impl Access {
    /// Lets those in whom the flags name; all others when [`Self::follow`] knows them.
    pub(crate) fn new(
        flag: Option<Token>,
        tokenless: Tokenless,
        scheme: &'static str,
        outgoing: Outgoing,
    ) -> Self {
        let a_second = |count| {
            Rates(vec![domain::span::Rate { count, per: domain::span::Span::from_secs(1) }])
        };
        Self(Arc::new(Inner {
            flag,
            tokenless,
            scheme,
            outgoing,
            keyring: OnceLock::new(),
            settings: RwLock::default(),
            limiter: Limiter::default(),
            refusals: Limiter::default(),
            refusals_logged: a_second(10),
            integration_rate: a_second(INTEGRATION_RATE),
        }))
    }

    /// Returns whether nobody comes in as the owner of this host without a token.
    pub(crate) fn is_token_required(&self) -> bool {
        self.0.tokenless != Tokenless::Host
    }

    /// Follows the tokens and the configuration until `stop`. What was known last counts while
    /// the broker is away.
    pub(crate) async fn follow(self, bus: Bus, stop: CancellationToken) -> Result<(), BoxError> {
        let keyring = self.keyring(&bus).clone();
        let mut configs = bus.config_store().watch();
        let follow_config = async {
            while configs.changed().await.is_ok() {
                let text = configs.borrow_and_update().clone();
                if let Some((_, text)) = text {
                    self.configure(&text);
                }
            }
        };
        // Both end with the client, and so does this process.
        let both = async { tokio::join!(keyring.follow(), follow_config) };
        if stop.run_until_cancelled(both).await.is_some() {
            stop.cancelled().await;
        }
        Ok(())
    }

    fn keyring(&self, bus: &Bus) -> &Keyring {
        self.0.keyring.get_or_init(|| Keyring::new(bus))
    }

    fn configure(&self, text: &[u8]) {
        let access = match serde_json::from_slice::<Config>(text) {
            Ok(config) => config.access,
            Err(error) => {
                warn!(error = %Chain(&error), "the configuration cannot be read; who may come in stays as it was");
                return;
            }
        };
        let before = self.settings();
        let kept = before.provider.filter(|it| access.oidc.as_ref() == Some(it.settings()));
        let provider = match (kept, access.oidc) {
            (Some(kept), _) => Some(kept),
            (None, None) => None,
            (None, Some(settings)) => {
                info!(issuer = settings.issuer, "tokens of this provider are taken");
                match Provider::new(settings, &self.0.outgoing) {
                    Ok(provider) => Some(Arc::new(provider)),
                    Err(error) => {
                        warn!(error = %Chain(&error), "cannot prepare to ask the provider");
                        None
                    }
                }
            }
        };
        let now = Settings { is_known: true, provider, rate: access.rate.map(Arc::new) };
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn settings(&self) -> Settings {
        self.0.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns who a request comes from, if it may do what it wants.
    pub(crate) async fn allow(
        &self,
        route: &Route,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Caller, Problem> {
        let address = peer.map(|it| it.address);
        let decided = self.decide(route, uri, headers, address).await;
        match (&decided, peer) {
            (Err(problem), _) => self.tell_of(problem, route, peer),
            (Ok(Caller(Some(_))), Some(peer)) => peer.connection.prove(),
            (Ok(Caller(Some(_) | None)), _) => {}
        }
        decided
    }

    /// Returns who sends a token that may do what needs this role, at a route that looks at a
    /// secret of its own, too.
    pub(crate) async fn by_token(
        &self,
        least: Role,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Arc<Principal>, Problem> {
        let principal = self.identify(uri, headers).await?;
        covers(&principal, least)?;
        Ok(principal)
    }

    /// Counts who was not let in.
    pub(crate) fn count_refusal(&self, problem: &Problem) {
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&problem.status()) {
            let reason = problem.code();
            metrics::counter!("selfheal_gateway_refused_total", "reason" => reason).increment(1);
        }
    }

    async fn decide(
        &self,
        route: &Route,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Caller, Problem> {
        let least = match route.need {
            Need::Open => return self.allow_anybody(uri, headers, peer).map(|()| Caller(None)),
            // What the route's own secret is, its handler knows.
            Need::Own => return Ok(Caller(self.identify(uri, headers).await.ok())),
            Need::Known => None,
            Need::Least(role) => Some(role),
        };
        let local = self.local_sender(route, uri, headers, peer)?;
        let principal = match local {
            Some(sender) => Arc::new(sender),
            None => {
                let identified = self.identify(uri, headers).await;
                identified.map_err(|problem| self.with_place_of_token(problem, peer))?
            }
        };
        let caller = Caller(Some(principal));
        let principal = match least {
            Some(least) => caller.require(least)?,
            None => caller.require_any()?,
        };
        self.limit(principal, route.load)?;
        Ok(caller)
    }

    /// Lets anybody see what is open. Where callers of this host come in without a token, pages of
    /// other sites that are shown on it do not.
    fn allow_anybody(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<(), Problem> {
        match self.0.tokenless {
            Tokenless::Nobody => Ok(()),
            Tokenless::Events { .. } if !peer.is_some_and(local::is_of_host) => Ok(()),
            Tokenless::Events { .. } | Tokenless::Host => local::check(self.0.scheme, uri, headers),
        }
    }

    /// Returns who sends an event from this host without a token, if that is allowed.
    fn local_sender(
        &self,
        route: &Route,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Principal>, Problem> {
        let is_event = route.need == table::PUBLISHER && route.load == Load::Events;
        let is_local = peer.is_some_and(local::is_of_host) && !local::is_forwarded(headers);
        let is_taken = matches!(self.0.tokenless, Tokenless::Events { .. });
        if !(is_taken && is_event && is_local && matches!(bearer(headers), Bearer::Nothing)) {
            return Ok(None);
        }
        local::check(self.0.scheme, uri, headers)?;
        Ok(Some(Principal::of_host_sender()))
    }

    /// Tells callers of this host where its owner finds his token.
    fn with_place_of_token(&self, problem: Problem, peer: Option<SocketAddr>) -> Problem {
        let Tokenless::Events { token_file: Some(file) } = &self.0.tokenless else {
            return problem;
        };
        if problem.code() != TOKEN_MISSING || !peer.is_some_and(local::is_of_host) {
            return problem;
        }
        problem.hinted(format!(
            "send the header `Authorization: Bearer <token>`: the owner of this gateway finds it in {file}; `selfheal token create` makes others"
        ))
    }

    async fn identify(&self, uri: &Uri, headers: &HeaderMap) -> Result<Arc<Principal>, Problem> {
        match bearer(headers) {
            Bearer::Token(token) => self.of_token(token).await.map(Arc::new),
            Bearer::Nothing if self.0.tokenless == Tokenless::Host => {
                local::check(self.0.scheme, uri, headers)?;
                Ok(Arc::new(Principal::of_host()))
            }
            Bearer::Nothing => Err(missing()),
            Bearer::Other => Err(refused(TOKEN_MISSING, "this gateway asks for a bearer token")),
        }
    }

    async fn of_token(&self, token: &str) -> Result<Principal, Problem> {
        let hash = token_hash(token);
        if self.0.flag.as_ref().is_some_and(|it| it.is_hash(&hash)) {
            return Ok(Principal::of_flags());
        }
        let keyring = self.0.keyring.get();
        if let Some(record) = keyring.and_then(|it| it.find(&hash)) {
            return match record.state(Utc::now()) {
                TokenState::Valid => Ok(Principal::of_token(&record)),
                TokenState::Expired => Err(refused("token_expired", "this token has expired")),
                TokenState::Revoked => Err(refused("token_revoked", "this token was revoked")),
            };
        }
        if oidc::is_token(token) {
            let settings = self.settings();
            return match settings.provider {
                Some(provider) => {
                    // Boxed, as it is large and most requests do without.
                    let identity = Box::pin(provider.identify(token, Utc::now())).await?;
                    let proof = (provider.settings().issuer.as_str(), identity.until);
                    Ok(Principal::of_provider(&identity.name, identity.role, proof))
                }
                None if settings.is_known => {
                    Err(refused("token_wrong", "no provider is configured whose tokens are taken"))
                }
                None => Err(not_known_yet()),
            };
        }
        let is_ours = token.starts_with(access::TOKEN_PREFIX);
        if is_ours && !keyring.is_some_and(Keyring::is_known) {
            return Err(not_known_yet());
        }
        Err(refused("token_wrong", "this token is not known here"))
    }

    /// Counts a request of a principal, or refuses it for now: never with 401.
    pub(crate) fn limit(&self, principal: &Principal, load: Load) -> Result<(), Problem> {
        let all = self.0.settings.read().unwrap_or_else(PoisonError::into_inner).rate.clone();
        let of_door = (principal.proof == Proof::Integration).then_some(&self.0.integration_rate);
        let rates = rate::of(principal.rate.as_ref(), all.as_deref(), load).or(of_door);
        let Some(rates) = rates else { return Ok(()) };
        let taken = self.0.limiter.take(&principal.name, load, rates, Instant::now());
        let Err(wait) = taken else { return Ok(()) };
        metrics::counter!("selfheal_gateway_limited_total").increment(1);
        let seconds = u16::try_from(wait.as_secs().saturating_add(1)).unwrap_or(u16::MAX);
        let message = format!("`{}` may come only so often: {rates}", principal.name);
        let hint = "send it again after the time in Retry-After; `access.rate` or the token says how often";
        Err(match load {
            Load::Events => Problem::later("rate_limited", message, hint, seconds),
            Load::Requests => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Problem::new(status, "rate_limited", message, hint).after(seconds)
            }
        })
    }

    /// Counts and logs who was not let in. The token itself is told to nobody.
    pub(crate) fn tell_of(&self, problem: &Problem, route: &Route, peer: Option<&Peer>) {
        if ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&problem.status()) {
            return;
        }
        self.count_refusal(problem);
        let reason = problem.code();
        let may_log =
            self.0.refusals.take("", Load::Requests, &self.0.refusals_logged, Instant::now());
        if may_log.is_ok() {
            let peer = peer.map(|it| it.address.to_string());
            warn!(
                reason,
                peer,
                method = route.method,
                route = route.path,
                detail = problem.message(),
                "a caller was not let in"
            );
        }
    }

    /// Waits until the tokens are known, but not for ever: a supervisor of an older version has
    /// not made their bucket.
    pub(crate) async fn settle(&self, bus: &Bus) {
        let known = self.keyring(bus).known();
        if tokio::time::timeout(SETTLE_TIME_MAX, known).await.is_err() {
            warn!(
                hint = "see whether a supervisor of this version runs, and what this user of the broker may read",
                "the tokens are not known yet; whoever sends one hears 503 until they are"
            );
        }
    }

    /// Waits until a caller who was let in would be no more: for answers that go on.
    pub(crate) async fn ended(&self, principal: &Principal) {
        match &principal.proof {
            Proof::Host | Proof::Flags | Proof::Integration => std::future::pending().await,
            Proof::Provider { until, .. } => {
                let left = (*until - Utc::now()).to_std().unwrap_or_default();
                tokio::time::sleep(left).await;
            }
            Proof::Token(hash) => match self.0.keyring.get() {
                Some(keyring) => keyring.ended(hash).await,
                None => std::future::pending().await,
            },
        }
    }

    /// Returns what is kept of the token that has this hash.
    pub(crate) fn record(&self, hash: &str) -> Option<access::TokenRecord> {
        self.0.keyring.get()?.find(hash)
    }

    /// Returns the tokens as they are known here.
    pub(crate) fn tokens(&self) -> Option<Arc<bus::Tokens>> {
        self.0.keyring.get()?.tokens()
    }
}

fn covers(principal: &Principal, least: Role) -> Result<(), Problem> {
    if principal.role.covers(least) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "role_too_low",
        format!("`{}` is a {}; this needs the role {least}", principal.name, principal.role),
        format!(
            "ask an admin for a token of that role: `selfheal token create --role {least} --name NAME`"
        ),
    ))
}

/// What a request shows of who it comes from.
enum Bearer<'a> {
    Token(&'a str),
    /// Credentials of another kind.
    Other,
    Nothing,
}

fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Bearer::Nothing };
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Bearer::Token(rest.trim()),
        Some(_) | None => Bearer::Other,
    }
}

fn missing() -> Problem {
    refused(TOKEN_MISSING, "this gateway asks for a token")
}

fn refused(code: &'static str, message: &'static str) -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        code,
        message,
        "send the header `Authorization: Bearer <token>`; `selfheal token create` makes one",
    )
}

/// Never 401: senders of events would drop what they could send again.
fn not_known_yet() -> Problem {
    Problem::later(
        "access_not_known",
        "access rules are not loaded yet: waiting for the broker",
        "send it again after the time in Retry-After; see whether the broker runs",
        1,
    )
}

#[cfg(test)]
mod tests;
