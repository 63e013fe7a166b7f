//! The table `[vpc]`.

use serde::{Deserialize, Serialize};
use shakedown_core::{Rate, SectionSpec, Setting, Span};

/// `[vpc]`: the Serverless VPC Access connector between the services and the database.
///
/// Apart from names, nothing here is read from the connector: the numbers are what the operator
/// states or what the strategy assumes. Probes print assumed numbers with the reason and never
/// measure against them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Vpc {
    /// The connector's name; empty when the services have none.
    pub name: String,
    /// The VPC network it leads into.
    pub network: String,
    /// The subnet its instances live in.
    pub subnet: String,
    /// The machine type of its instances.
    pub machine_type: String,
    /// Throughput with `instances_min` instances, in Mbit/s. Default: Google's for e2-micro.
    pub throughput_min_mbps: Setting<u32>,
    /// Throughput with `instances_max` instances, in Mbit/s. Default: Google's most for e2-micro.
    pub throughput_max_mbps: Setting<u32>,
    /// The fewest instances. Default: the documented minimum.
    pub instances_min: Setting<u32>,
    /// The most instances. Default: the documented maximum.
    pub instances_max: Setting<u32>,
    /// Connections one instance carries. Default: the strategy's number, for which no source was
    /// found.
    pub connections_per_instance: Setting<u32>,
    /// New connections the connector takes. Default: the strategy's number, for which no source was
    /// found.
    pub connection_rate: Setting<Rate>,
    /// The shortest time until one more instance helps. Default: the strategy's, undocumented.
    pub scaling_delay_min: Setting<Span>,
    /// The longest time until one more instance helps. Default: the strategy's, undocumented.
    pub scaling_delay_max: Setting<Span>,
    /// Quiet time before an instance is taken away. Default: the strategy's; Google documents that
    /// connectors do not scale in at all.
    pub cooldown: Setting<Span>,
    /// Which outbound traffic of the services takes the connector. Unset means "not said".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Which kind of address of the database is dialled, by the Auth Proxy or where a name hides it.
    pub database_address: AddressKind,
}

impl Default for Vpc {
    fn default() -> Self {
        let documented = "documented for e2-micro, not read from the connector";
        let no_source = "the strategy's number; no source found";
        let undocumented = "the strategy's number; not documented";
        Self {
            name: String::new(),
            network: String::new(),
            subnet: String::new(),
            machine_type: String::new(),
            throughput_min_mbps: Setting::assumed(200, documented),
            throughput_max_mbps: Setting::assumed(1000, documented),
            instances_min: Setting::assumed(2, documented),
            instances_max: Setting::assumed(10, documented),
            connections_per_instance: Setting::assumed(250, no_source),
            connection_rate: Setting::assumed(Rate::per_minute(600), no_source),
            scaling_delay_min: Setting::assumed(Span::secs(30), undocumented),
            scaling_delay_max: Setting::assumed(Span::secs(60), undocumented),
            cooldown: Setting::assumed(
                Span::secs(180),
                "the strategy's number; documented otherwise: connectors do not scale in",
            ),
            egress: None,
            database_address: AddressKind::Unknown,
        }
    }
}

impl SectionSpec for Vpc {
    const NAME: &'static str = "vpc";
    const SUMMARY: &'static str =
        "The Serverless VPC Access connector between the services and the database.";
}

#[cfg(feature = "register")]
shakedown_core::register_section!(Vpc);

/// Which outbound traffic of a service takes the connector, in Cloud Run's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Egress {
    /// Only what goes to private addresses.
    PrivateRangesOnly,
    /// Everything.
    AllTraffic,
}

impl Egress {
    /// As written in the environment file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrivateRangesOnly => "private-ranges-only",
            Self::AllTraffic => "all-traffic",
        }
    }
}

/// Which kind of address is dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AddressKind {
    /// An address inside the VPC network.
    Private,
    /// An address on the internet.
    Public,
    /// Nobody said.
    #[default]
    Unknown,
}

impl AddressKind {
    /// As written in the environment file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_nobody_stated_says_that_it_is_assumed() {
        let vpc = Vpc::default();
        let numbers = [
            &vpc.throughput_min_mbps,
            &vpc.throughput_max_mbps,
            &vpc.instances_min,
            &vpc.instances_max,
            &vpc.connections_per_instance,
        ];
        assert!(numbers.into_iter().all(Setting::is_assumed));
        assert!(vpc.connection_rate.is_assumed());
        let spans = [&vpc.scaling_delay_min, &vpc.scaling_delay_max, &vpc.cooldown];
        assert!(spans.into_iter().all(Setting::is_assumed));
    }

    #[test]
    fn the_table_reads_what_it_writes() {
        let text = toml::to_string(&Vpc::default()).expect("serialises");
        assert_eq!(toml::from_str::<Vpc>(&text).expect("reads"), Vpc::default());
        let stated = "egress = \"private-ranges-only\"\ndatabase_address = \"private\"\n\
                      connections_per_instance = 20\n";
        let vpc: Vpc = toml::from_str(stated).expect("reads");
        assert_eq!(vpc.egress, Some(Egress::PrivateRangesOnly));
        assert_eq!(vpc.database_address, AddressKind::Private);
        assert_eq!(vpc.connections_per_instance, Setting::stated(20));
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        for text in ["instances = 3", "egress = \"some\"", "connection_rate = \"600\""] {
            assert!(toml::from_str::<Vpc>(text).is_err(), "{text}");
        }
    }
}
