//! Whether nobody is let in: told apart from strangers who are refused all day.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Hit, seconds};
use crate::attempt::{RequestKind, Traffic};

/// The kind of fact that a handshake or call came without a token: nothing is wrong with refusing it.
pub const ANONYMOUS: &str = "auth.no-token";
/// The kind of fact that a token was accepted.
pub const TOKEN_ACCEPTED: &str = "auth.token-accepted";
/// The kind of fact that whoever came without a token was let in to look around.
pub const GUEST: &str = "auth.guest";
/// The kind of fact that a token does not fit the secret, key or audience of whoever checks it.
pub const TOKEN_UNFIT: &str = "auth.signature";
/// The kind of fact that a token was refused for another reason.
pub const TOKEN_REFUSED: &str = "auth.token-refused";
/// The kind of fact that whoever checks tokens does not answer: everybody is refused for it.
pub const CHECKER_SILENT: &str = "auth.checker-silent";
/// The kind of fact that a WebSocket was opened and then closed because its user may not come in
/// (1008): opening it let nobody in.
pub const SOCKET_CLOSED: &str = "auth.socket-closed";
/// The kind of fact that a WebSocket was opened and then closed because the service could not go on
/// (1011).
pub const SOCKET_BROKEN: &str = "app.socket-broken";
/// Below this weight a refusal is of old tokens, which somebody has all day.
const MEANS: f64 = 0.5;
/// A path that has this in it is for guests.
const GUESTS: &str = "demo";
/// With this a layer that knows of origins refuses one.
const ORIGIN_REFUSED: u16 = 400;
/// So many refused preflights are browsers', whatever they are refused with.
const SOME: u64 = 10;
/// So long both revisions answer when one takes the other's place, in seconds.
const ROLL_OUT_S: i64 = 60;
/// So few refusals are no state of the service.
pub(super) const FEW: u64 = 3;

/// Whether a status says that who asks is not let in.
fn refusal(status: u16) -> bool {
    (401..=403).contains(&status)
}

/// What a path belongs to: its first segment. Whoever is let in to one call of an API is let in.
fn area(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// Answers as the platform counts them, and as the application's server does: the same ones.
#[derive(Default)]
struct Counted {
    let_in: [u64; 2],
    refused: [u64; 2],
}

impl Counted {
    fn add(&mut self, traffic: &Traffic) {
        let by = usize::from(traffic.access);
        // Whoever is told that a request makes no sense was let in to make it.
        let let_in = traffic.served() || matches!(traffic.status, 400 | 409 | 422);
        self.let_in[by] += if let_in { traffic.count } else { 0 };
        self.refused[by] += if refusal(traffic.status) { traffic.count } else { 0 };
    }

    /// Whether none was let in, of more than a few who did not come without a token.
    fn shut(&self, anonymous: u64) -> bool {
        self.let_in == [0, 0] && self.refuses(anonymous)
    }

    /// Whether more than a few were refused who did not come without a token.
    fn refuses(&self, anonymous: u64) -> bool {
        self.most_refused() >= FEW + anonymous
    }

    fn most_refused(&self) -> u64 {
        self.refused[0].max(self.refused[1])
    }
}

/// Which WebSockets were turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sockets {
    /// None, but for strangers.
    None,
    /// Those that were refused.
    Refused,
    /// Those that were refused, and with them whoever has a token: only guests are let in.
    Users,
    /// Those that were opened too: each was closed for its user.
    All,
}

impl<'e> Case<'e> {
    /// Whether every WebSocket that was opened was closed because the service could not go on.
    pub(super) fn sockets_break(&self) -> bool {
        let opened = self.sockets_opened();
        opened >= FEW && self.count_of(SOCKET_BROKEN) >= opened
    }

    /// How many WebSockets were opened.
    pub(super) fn sockets_opened(&self) -> u64 {
        let opened = |access: bool| -> u64 {
            let of = self.answers(RequestKind::Websocket);
            of.filter(|answer| answer.access == access && answer.served()).map(|a| a.count).sum()
        };
        opened(false).max(opened(true))
    }

    /// Which WebSockets were turned away, for more reasons than a missing token.
    pub(super) fn sockets_turned_away(&self) -> Sockets {
        let mut counted = Counted::default();
        for traffic in self.answers(RequestKind::Websocket) {
            counted.add(traffic);
        }
        let anonymous = self.count_of(ANONYMOUS);
        let opened = counted.let_in.into_iter().max().unwrap_or(0);
        let closed = self.count_of(SOCKET_CLOSED);
        match () {
            () if opened > 0 && closed >= opened.max(FEW + anonymous) => Sockets::All,
            () if counted.shut(anonymous) || self.sockets_are_refused_since() => Sockets::Refused,
            () if self.only_guests(opened) && counted.refuses(anonymous) => Sockets::Users,
            () => Sockets::None,
        }
    }

    /// Whether all WebSockets that were opened are guests', while tokens are refused that have
    /// not just expired, and none is accepted.
    fn only_guests(&self, opened: u64) -> bool {
        let path = |traffic: &&Traffic| traffic.served() && traffic.path.contains(GUESTS);
        let by = |access: bool| -> u64 {
            let of = self.answers(RequestKind::Websocket).filter(path);
            of.filter(|traffic| traffic.access == access).map(|traffic| traffic.count).sum()
        };
        let guests = self.count_of(GUEST).max(by(false)).max(by(true));
        let unfit = self.count_of(TOKEN_UNFIT) + self.count_of(CHECKER_SILENT);
        let says_why = |signal: &str| {
            let hits = self.hits.iter().filter(|hit| hit.signal == signal);
            hits.map(|hit| hit.weight).any(|weight| weight >= MEANS)
        };
        let refused = self.tallies.iter().filter(|tally| tally.fact == TOKEN_REFUSED);
        let refused: u64 =
            refused.filter(|tally| says_why(&tally.signal)).map(|tally| tally.count).sum();
        guests >= opened
            && (unfit >= FEW || unfit + refused >= SOME)
            && self.count_of(TOKEN_ACCEPTED) == 0
    }

    /// Whether WebSockets were let in once and are no more, by whoever cannot check tokens: whose
    /// token has expired asks all day.
    fn sockets_are_refused_since(&self) -> bool {
        let refused = |traffic: &Traffic| refusal(traffic.status);
        self.count_of(TOKEN_UNFIT) + self.count_of(CHECKER_SILENT) >= SOME
            && self.stopped(RequestKind::Websocket, Traffic::served, refused)
    }

    /// The areas of its API in which no call at all was let in while tokens were refused, and no
    /// WebSocket either. Statuses alone do not tell: scanners are refused too, and show no token.
    pub(super) fn shut_areas(&self) -> BTreeSet<&'e str> {
        let refused = [TOKEN_UNFIT, TOKEN_REFUSED, CHECKER_SILENT];
        let hits = || refused.into_iter().flat_map(|kind| self.of_kind(kind));
        if self.answers(RequestKind::Websocket).any(Traffic::served) {
            return BTreeSet::new();
        }
        let mut areas: BTreeMap<&str, (Counted, bool)> = BTreeMap::new();
        for traffic in self.answers(RequestKind::Other).filter(|traffic| !traffic.path.is_empty()) {
            let (counted, token) = areas.entry(area(&traffic.path)).or_default();
            counted.add(traffic);
            let beside = |hit: &Hit<'_>| traffic.beside(hit.observation.moment.at);
            *token |=
                refusal(traffic.status) && hits().any(|h| traffic.first.is_none() || beside(h));
        }
        let anonymous = self.count_of(ANONYMOUS);
        // What is refused beside others who are let in has its own words.
        let open = areas.values().filter(|(counted, _)| counted.let_in != [0, 0]);
        let theirs: u64 = open.map(|(counted, _)| counted.most_refused()).sum();
        let tokens: u64 = refused.into_iter().map(|kind| self.count_of(kind)).sum();
        if tokens <= theirs.saturating_sub(anonymous) {
            return BTreeSet::new();
        }
        areas.retain(|_, (counted, token)| *token && counted.shut(anonymous));
        areas.into_keys().collect()
    }

    /// Whether every preflight that a browser can have asked was refused from some moment on, of more
    /// than a few, and no browser got through otherwise: pages of another origin may not call.
    pub(super) fn preflights_are_refused(&self) -> bool {
        // Where the platform counts, it also knows who asked.
        let access = self.traffic.iter().all(|(_, traffic)| traffic.access);
        let counted = |wanted: &dyn Fn(&Traffic) -> bool| -> u64 {
            let traffic = self.traffic.iter().map(|(_, traffic)| *traffic);
            let traffic = traffic.filter(|traffic| traffic.access == access && wanted(traffic));
            traffic.map(|traffic| traffic.count).sum()
        };
        let preflight = |traffic: &Traffic| traffic.request == RequestKind::Preflight;
        let refused = |traffic: &Traffic| preflight(traffic) && self.blocks(traffic);
        let origin = |traffic: &Traffic| refused(traffic) && traffic.status == ORIGIN_REFUSED;
        let traffic = self.traffic.iter().map(|(_, traffic)| *traffic);
        let blocked: Vec<_> = traffic.filter(|traffic| refused(traffic)).collect();
        let since = blocked.iter().filter_map(|traffic| traffic.first).min();
        let until = blocked.iter().filter_map(|traffic| traffic.last).max();
        // Among refusals that go on, answers of a revision that goes are early.
        let span = since.zip(until).map_or(0, |(since, until)| seconds(since, until));
        let after = |at| since.is_none_or(|since| seconds(since, at) > ROLL_OUT_S.min(span / 2));
        let let_in = |traffic: &Traffic| {
            let browser = preflight(traffic) || traffic.browser;
            browser && traffic.served() && traffic.last.is_none_or(after)
        };
        counted(&let_in) == 0 && (counted(&origin) >= FEW || counted(&refused) >= SOME)
    }

    /// Whether an answer refuses a preflight. A layer that knows of origins says 400 to nobody else;
    /// with the others a service also answers strangers, who ask for what it does not have.
    fn blocks(&self, preflight: &Traffic) -> bool {
        let own = || {
            self.answers(RequestKind::Other)
                .any(|traffic| traffic.served() && area(&traffic.path) == area(&preflight.path))
        };
        let inside = !area(&preflight.path).is_empty();
        inside
            && match preflight.status {
                ORIGIN_REFUSED => true,
                401 | 403 | 405 => own(),
                _ => false,
            }
    }

    /// Whether an answer turns somebody away who should be let in: a refusal where nobody at all was
    /// let in. Refusals beside successes are negative tests, scanners, expired tokens.
    pub fn turned_away(&self, traffic: &Traffic) -> bool {
        let refusal = refusal(traffic.status);
        match traffic.request {
            RequestKind::Websocket => match self.sockets {
                Sockets::None => false,
                Sockets::Refused | Sockets::Users => refusal,
                Sockets::All => refusal || traffic.served(),
            },
            RequestKind::Other => refusal && self.shut.contains(area(&traffic.path)),
            RequestKind::Preflight => self.blocked && self.blocks(traffic),
            RequestKind::Health | RequestKind::Static => false,
        }
    }

    /// Whether the service did what was asked, and neither turned away who asked nor broke off.
    pub fn was_served(&self, traffic: &Traffic) -> bool {
        let guest = self.sockets == Sockets::Users && traffic.request == RequestKind::Websocket;
        traffic.served() && !guest && !self.answer_failed(traffic)
    }

    /// Whether an answer is a [failure](Traffic::failed) of the service, or somebody [turned
    /// away](Self::turned_away), or a WebSocket where every one that was opened broke.
    pub fn answer_failed(&self, traffic: &Traffic) -> bool {
        let broke = self.broken && traffic.request == RequestKind::Websocket && traffic.served();
        traffic.failed() || broke || self.turned_away(traffic)
    }

    pub(super) fn count_of(&self, fact: &str) -> u64 {
        self.tallies.iter().filter(|tally| tally.fact == fact).map(|tally| tally.count).sum()
    }
}
