//! Faults as scenarios write them: when, what, with which parameters.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::Span;
use shakedown_core::environment::TimeScale;

use crate::application::{AUTH, BACKEND};
use crate::settings::scaled_mbps;

/// One fault of a scenario: a kind with its parameters, in force from `at` until `until`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawFault", into = "RawFault")]
pub struct Fault {
    /// Start, from the moment the lab is ready. At `0s` the fault is in force before that moment.
    pub at: Span,
    /// End, from the moment the lab is ready; `None` lasts to the end.
    pub until: Option<When>,
    /// What goes wrong.
    pub kind: FaultKind,
}

/// A moment, or a range from which the scenario's seed draws one: `"50s"`, `"20s..80s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct When {
    /// Earliest.
    pub min: Span,
    /// Latest, inclusive.
    pub max: Span,
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}..{}", self.min, self.max)
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let span = |text: &str| text.parse::<Span>().map_err(|error| error.to_string());
        let when = Self { min: span(min)?, max: span(max)? };
        if when.min > when.max {
            return Err(format!("{text:?} ends before it starts"));
        }
        Ok(when)
    }
}

impl TryFrom<String> for When {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<When> for String {
    fn from(when: When) -> Self {
        when.to_string()
    }
}

/// What goes wrong, and where on the path `client -> proxy -> connector -> database`.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// `connector-drop`: SYNs to the connector stay unanswered; open connections go on.
    ConnectorDrop,
    /// `connector-no-egress`: the same, as an instance sees it whose egress is not set up yet.
    ConnectorNoEgress,
    /// `connector-reset`: this share of new connections is accepted and reset.
    ConnectorReset {
        /// 0 to 1, default 1.
        share: f64,
    },
    /// `connector-stall`: this share of new connections stops carrying bytes, without closing,
    /// until the fault ends.
    ConnectorStall {
        /// 0 to 1, default 1.
        share: f64,
        /// Bytes carried first, both directions together. Default 0.
        after_bytes: u64,
    },
    /// `connector-neighbour`: other clients hold connections through the same connector to a sink.
    ConnectorNeighbour {
        /// How many; default as many as the connector carries with its first instances.
        connections: Option<u32>,
        /// What they send together, megabits per second (a rate: scaled). Default 0.
        mbps: f64,
    },
    /// `proxy-eof`: the Auth Proxy accepts and closes, as when its handshake with the instance fails.
    ProxyEof,
    /// `database-closed`: the server reads the start-up packet and closes.
    DatabaseClosed,
    /// `database-silent`: the server accepts and never answers.
    DatabaseSilent,
    /// `database-refused`: nothing listens.
    DatabaseRefused,
    /// `database-slow-auth`: what the client sends after its start-up packet arrives late.
    DatabaseSlowAuth {
        /// How late.
        delay: Span,
    },
    /// `database-slots-held`: other sessions hold the ordinary connection slots.
    DatabaseSlotsHeld {
        /// Slots left free. Default 0.
        leave: u32,
    },
    /// `wrong-password`: the role's password is another one than the environment has.
    WrongPassword,
    /// `auth-down`: the auth service answers everything with 503.
    AuthDown,
    /// `jwt-mismatch`: the auth service signs with another secret than the backend checks with.
    JwtMismatch,
    /// `websocket-blocked`: the load balancer passes WebSocket requests on as plain ones.
    WebsocketBlocked,
    /// `deploy`: a service's revision has these variables in its environment; from the start when
    /// `at` is 0, else as a new revision. At the end of the fault a further revision is deployed that
    /// has them as before.
    Deploy {
        /// `backend` (default) or `auth`.
        service: String,
        /// Names and values; a value that is a duration is scaled, an empty one takes the variable
        /// away.
        variables: BTreeMap<String, String>,
        /// `vpc-access-egress: all-traffic`: in this lab the Auth Proxy's way to the instance has no
        /// route behind the connector then. Default no.
        all_traffic: bool,
    },
    /// `scale-out`: the backend has more instances.
    ScaleOut {
        /// How many more. Default 1.
        instances: u32,
    },
    /// `cache-down`: nobody listens where the backend's cache is.
    CacheDown,
    /// `database-lock`: another session holds a table of the application's in access exclusive mode.
    DatabaseLock {
        /// Which. Default `threads`.
        table: String,
    },
}

impl FaultKind {
    /// The name scenarios use.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ConnectorDrop => "connector-drop",
            Self::ConnectorNoEgress => "connector-no-egress",
            Self::ConnectorReset { .. } => "connector-reset",
            Self::ConnectorStall { .. } => "connector-stall",
            Self::ConnectorNeighbour { .. } => "connector-neighbour",
            Self::ProxyEof => "proxy-eof",
            Self::DatabaseClosed => "database-closed",
            Self::DatabaseSilent => "database-silent",
            Self::DatabaseRefused => "database-refused",
            Self::DatabaseSlowAuth { .. } => "database-slow-auth",
            Self::DatabaseSlotsHeld { .. } => "database-slots-held",
            Self::WrongPassword => "wrong-password",
            Self::AuthDown => "auth-down",
            Self::JwtMismatch => "jwt-mismatch",
            Self::WebsocketBlocked => "websocket-blocked",
            Self::Deploy { .. } => "deploy",
            Self::ScaleOut { .. } => "scale-out",
            Self::CacheDown => "cache-down",
            Self::DatabaseLock { .. } => "database-lock",
        }
    }
}

impl Fault {
    /// The fault in lab time, its end drawn. `draw` is in 0..1.
    #[must_use]
    pub(crate) fn resolved(&self, scale: TimeScale, draw: f64) -> Self {
        let mut fault = self.clone();
        fault.at.0 = scale.duration(fault.at.0);
        if let Some(until) = &mut fault.until {
            let width = until.max.0.saturating_sub(until.min.0).mul_f64(draw);
            // Whole milliseconds: the resolved copy says exactly what happens.
            let moment = scale.duration(until.min.0 + width).as_millis();
            let moment = Span(Duration::from_millis(u64::try_from(moment).unwrap_or(u64::MAX)));
            *until = When { min: moment, max: moment };
        }
        match &mut fault.kind {
            FaultKind::ConnectorNeighbour { mbps, .. } => *mbps = scaled_mbps(scale, *mbps),
            FaultKind::DatabaseSlowAuth { delay } => delay.0 = scale.duration(delay.0),
            FaultKind::Deploy { variables, .. } => {
                for (name, value) in variables {
                    if let Ok(span) = value.parse::<Span>() {
                        let limit = name.starts_with("LAB_LIMIT_");
                        let scaled =
                            if limit { scale.limit(span.0) } else { scale.duration(span.0) };
                        *value = Span(scaled).to_string();
                    }
                }
            }
            _ => {}
        }
        fault
    }
}

/// The table as written. Flat, because `deny_unknown_fields` and tagged enums do not go together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    kind: String,
    #[serde(default)]
    at: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<When>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connections: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mbps: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leave: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variables: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all_traffic: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instances: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<String>,
}

/// Names of all kinds, in the order of [`FaultKind`].
const KINDS: [&str; 19] = [
    "connector-drop",
    "connector-no-egress",
    "connector-reset",
    "connector-stall",
    "connector-neighbour",
    "proxy-eof",
    "database-closed",
    "database-silent",
    "database-refused",
    "database-slow-auth",
    "database-slots-held",
    "wrong-password",
    "auth-down",
    "jwt-mismatch",
    "websocket-blocked",
    "deploy",
    "scale-out",
    "cache-down",
    "database-lock",
];

impl TryFrom<RawFault> for Fault {
    type Error = String;

    fn try_from(mut raw: RawFault) -> Result<Self, String> {
        let share = |share: Option<f64>| match share.unwrap_or(1.0) {
            share if (0.0..=1.0).contains(&share) => Ok(share),
            share => Err(format!("share must be from 0 to 1, not {share}")),
        };
        let kind = match raw.kind.as_str() {
            "connector-drop" => FaultKind::ConnectorDrop,
            "connector-no-egress" => FaultKind::ConnectorNoEgress,
            "connector-reset" => FaultKind::ConnectorReset { share: share(raw.share.take())? },
            "connector-stall" => FaultKind::ConnectorStall {
                share: share(raw.share.take())?,
                after_bytes: raw.after_bytes.take().unwrap_or(0),
            },
            "connector-neighbour" => {
                let mbps = raw.mbps.take().unwrap_or(0.0);
                if !(mbps.is_finite() && mbps >= 0.0) {
                    return Err(format!("mbps must be 0 or more, not {mbps}"));
                }
                FaultKind::ConnectorNeighbour { connections: raw.connections.take(), mbps }
            }
            "proxy-eof" => FaultKind::ProxyEof,
            "database-closed" => FaultKind::DatabaseClosed,
            "database-silent" => FaultKind::DatabaseSilent,
            "database-refused" => FaultKind::DatabaseRefused,
            "database-slow-auth" => FaultKind::DatabaseSlowAuth {
                delay: raw.delay.take().ok_or("fault kind \"database-slow-auth\" needs delay")?,
            },
            "database-slots-held" => {
                FaultKind::DatabaseSlotsHeld { leave: raw.leave.take().unwrap_or(0) }
            }
            "wrong-password" => FaultKind::WrongPassword,
            "auth-down" => FaultKind::AuthDown,
            "jwt-mismatch" => FaultKind::JwtMismatch,
            "websocket-blocked" => FaultKind::WebsocketBlocked,
            "deploy" => FaultKind::Deploy {
                service: match raw.service.take() {
                    None => BACKEND.into(),
                    Some(service) if [BACKEND, AUTH].contains(&&*service) => service,
                    Some(other) => {
                        return Err(format!("service must be backend or auth, not {other:?}"));
                    }
                },
                variables: raw.variables.take().unwrap_or_default(),
                all_traffic: raw.all_traffic.take().unwrap_or(false),
            },
            "scale-out" => FaultKind::ScaleOut { instances: raw.instances.take().unwrap_or(1) },
            "cache-down" => FaultKind::CacheDown,
            "database-lock" => {
                let table = raw.table.take().unwrap_or_else(|| "threads".into());
                if !table.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                    return Err(format!("table must be lower-case letters and '_', not {table:?}"));
                }
                FaultKind::DatabaseLock { table }
            }
            other => {
                return Err(format!("no fault kind {other:?}; there are {}", KINDS.join(", ")));
            }
        };
        let left = [
            ("share", raw.share.is_some()),
            ("after_bytes", raw.after_bytes.is_some()),
            ("connections", raw.connections.is_some()),
            ("mbps", raw.mbps.is_some()),
            ("delay", raw.delay.is_some()),
            ("leave", raw.leave.is_some()),
            ("service", raw.service.is_some()),
            ("variables", raw.variables.is_some()),
            ("all_traffic", raw.all_traffic.is_some()),
            ("instances", raw.instances.is_some()),
            ("table", raw.table.is_some()),
        ];
        if let Some((key, _)) = left.iter().find(|(_, set)| *set) {
            return Err(format!("{key} does not belong to fault kind {:?}", raw.kind));
        }
        if raw.until.is_some_and(|until| until.min <= raw.at) {
            return Err(format!("until must be later than at ({})", raw.at));
        }
        Ok(Self { at: raw.at, until: raw.until, kind })
    }
}

impl From<Fault> for RawFault {
    fn from(fault: Fault) -> Self {
        let mut raw = Self {
            kind: fault.kind.name().into(),
            at: fault.at,
            until: fault.until,
            ..Self::default()
        };
        match fault.kind {
            FaultKind::ConnectorReset { share } => raw.share = Some(share),
            FaultKind::ConnectorStall { share, after_bytes } => {
                raw.share = Some(share);
                raw.after_bytes = Some(after_bytes);
            }
            FaultKind::ConnectorNeighbour { connections, mbps } => {
                raw.connections = connections;
                raw.mbps = Some(mbps);
            }
            FaultKind::DatabaseSlowAuth { delay } => raw.delay = Some(delay),
            FaultKind::DatabaseSlotsHeld { leave } => raw.leave = Some(leave),
            FaultKind::ConnectorDrop
            | FaultKind::ConnectorNoEgress
            | FaultKind::ProxyEof
            | FaultKind::DatabaseClosed
            | FaultKind::DatabaseSilent
            | FaultKind::DatabaseRefused
            | FaultKind::WrongPassword
            | FaultKind::AuthDown
            | FaultKind::JwtMismatch
            | FaultKind::WebsocketBlocked
            | FaultKind::CacheDown => {}
            FaultKind::Deploy { service, variables, all_traffic } => {
                raw.service = Some(service);
                raw.variables = Some(variables);
                raw.all_traffic = Some(all_traffic);
            }
            FaultKind::ScaleOut { instances } => raw.instances = Some(instances),
            FaultKind::DatabaseLock { table } => raw.table = Some(table),
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Fault, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn every_kind_is_listed_and_survives_text() {
        for kind in KINDS {
            let text = match kind {
                "database-slow-auth" => format!("kind = \"{kind}\"\ndelay = \"2s\""),
                _ => format!("kind = \"{kind}\""),
            };
            let fault = parse(&text).unwrap();
            assert_eq!(fault.kind.name(), kind);
            assert_eq!(parse(&toml::to_string(&fault).unwrap()).unwrap(), fault);
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        let cases = [
            ("kind = \"nope\"", "no fault kind \"nope\"; there are connector-drop,"),
            (
                "kind = \"proxy-eof\"\nshare = 0.5",
                "share does not belong to fault kind \"proxy-eof\"",
            ),
            ("kind = \"connector-reset\"\nshare = 2", "share must be from 0 to 1, not 2"),
            ("kind = \"database-slow-auth\"", "needs delay"),
            (
                "kind = \"proxy-eof\"\nat = \"5s\"\nuntil = \"5s\"",
                "until must be later than at (5s)",
            ),
            ("kind = \"proxy-eof\"\nuntil = \"80s..20s\"", "ends before it starts"),
            ("kind = \"proxy-eof\"\nwhen = \"80s\"", "unknown field `when`"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn resolving_draws_inside_the_range_and_scales() {
        let fault = parse("kind = \"connector-no-egress\"\nuntil = \"20s..80s\"").unwrap();
        let scale = TimeScale::new(10).unwrap();
        assert_eq!(fault.resolved(scale, 0.0).until.unwrap().min.0, Duration::from_secs(2));
        assert_eq!(fault.resolved(scale, 0.5).until.unwrap().min.0, Duration::from_secs(5));
    }
}
