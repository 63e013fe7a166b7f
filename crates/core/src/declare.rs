//! What every domain crate says in the same words: terms with their descriptions, observation kinds,
//! classifiers. Each macro registers what it declares where the calling crate's own feature
//! `register` is on; a crate that uses one must have that feature.

/// Declares causes and symptoms with their descriptions:
/// `NAME: Cause = "id", META, "title", "good state";`
#[macro_export]
macro_rules! terms {
    (@symptom Cause) => { false };
    (@symptom Symptom) => { true };
    ($($(#[$doc:meta])* $name:ident: $ty:ident = $id:literal, $meta:ident, $title:literal, $good:literal;)+) => {$(
        $(#[$doc])*
        pub const $name: $crate::id::$ty = $crate::id::$ty::new($id);
        #[doc = ::core::concat!("The description of `", $id, "`.")]
        pub const $meta: $crate::classify::CauseMeta = $crate::classify::CauseMeta {
            id: $id,
            symptom: $crate::terms!(@symptom $ty),
            title: $title,
            good_state: $good,
        };
        #[cfg(feature = "register")]
        $crate::register_cause!($meta);
    )+};
}

/// Declares what kinds of observation say: `META, KIND, "summary";`
#[macro_export]
macro_rules! observation_kinds {
    ($($meta:ident, $kind:expr, $summary:literal;)+) => {$(
        #[doc = ::core::concat!("What it says: ", $summary, ".")]
        pub const $meta: $crate::evidence::ObservationMeta = $crate::evidence::ObservationMeta {
            kind: $crate::id::ObservationKind::new($kind),
            summary: $summary,
        };
        #[cfg(feature = "register")]
        $crate::register_observation!($meta);
    )+};
}

/// Declares a classifier: its type, its [`ClassifierMeta`](crate::classify::ClassifierMeta), and the
/// function from evidence to claims that it is.
///
/// ```
/// # mod probe {
/// use shakedown_core::{Evidence, classify::Claim, id::Cause};
///
/// shakedown_core::classifier! {
///     /// Whether the ledger is behind.
///     pub struct Ledger;
///     id: "acme.ledger",
///     summary: "tells a ledger that is behind from one that is away",
///     causes: [Cause::new("ledger_behind")],
///     symptoms: [],
///     classify: claims,
/// }
///
/// fn claims(_: &Evidence) -> Vec<Claim> {
///     Vec::new()
/// }
/// # }
/// ```
#[macro_export]
macro_rules! classifier {
    (
        $(#[$doc:meta])*
        pub struct $name:ident;
        id: $id:literal,
        summary: $summary:literal,
        causes: [$($cause:expr),* $(,)?],
        symptoms: [$($symptom:expr),* $(,)?],
        classify: $classify:expr $(,)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name;

        impl $crate::classify::ClassifierSpec for $name {
            const META: $crate::classify::ClassifierMeta = $crate::classify::ClassifierMeta {
                id: $id,
                summary: $summary,
                causes: &[$($cause),*],
                symptoms: &[$($symptom),*],
            };
        }

        impl $crate::classify::FailureClassifier for $name {
            fn meta(&self) -> &'static $crate::classify::ClassifierMeta {
                &<Self as $crate::classify::ClassifierSpec>::META
            }

            fn classify(&self, evidence: &$crate::Evidence) -> Vec<$crate::classify::Claim> {
                let classify: fn(&$crate::Evidence) -> Vec<$crate::classify::Claim> = $classify;
                classify(evidence)
            }
        }

        #[cfg(feature = "register")]
        $crate::register_classifier!($name);
    };
}
