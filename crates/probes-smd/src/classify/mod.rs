//! From what an instance wrote before it died to why it died: on core alone.

mod causes;
mod port;
mod signals;
mod symptoms;

use shakedown_core::Case;

use crate::causes::{
    CODE_DEFECT, CONFIGURATION_ERROR, DEPENDENCY_UNAVAILABLE, EXIT_CODE_3, INSTANCE_KILLED,
    LIFESPAN_BREAKDOWN, OUT_OF_MEMORY, PHASE3_TIMEOUT, RESTART_LOOP, STARTUP_FAILED,
};

shakedown_core::observation_kinds! {
    DEFECT_META, signals::DEFECT, "an interpreter names a programming error";
    SETTING_META, signals::SETTING, "a setting is missing or not accepted; setting";
    DEPENDENCY_META, signals::DEPENDENCY, "something else the service needs does not answer; target, port";
    MEMORY_META, signals::MEMORY, "the process was killed for its memory; limit, used";
    EXCEPTION_META, signals::EXCEPTION, "an exception of a type that names no cause";
    LIFESPAN_META, signals::LIFESPAN, "the framework gave the start-up up";
    EXIT_META, signals::EXIT, "the platform's word about an exit";
    GOES_ON_META, shakedown_core::case::GOES_ON, "the application says that it goes on without something";
    WORK_DONE_META, shakedown_core::case::WORK_DONE, "a worker says that it did what a queue or a clock asked it for";
    PHASE_WORDS_META, signals::PHASE_WORDS, "the application's error message about its database phase";
    WORKER_TIMEOUT_META, signals::WORKER_TIMEOUT, "gunicorn or the platform kills a process that does not answer";
    STOPS_META, signals::STOPS, "a process that was asked to stop says so, though at ERROR";
    LISTENS_META, signals::LISTENS, "where the application's server says it listens; host, port";
    ASKED_META, signals::ASKED, "where the platform asked whether somebody listens, and nobody did; port";
    INSTANCE_META, signals::INSTANCE, "the platform could not start or reach an instance";
}

pub use signals::TABLE as SIGNALS;

#[cfg(feature = "register")]
shakedown_core::register_signal!(SIGNALS);

shakedown_core::classifier! {
    /// Why start-ups fail.
    pub struct StartupCauses;
    id: "smd.startup-causes",
    summary: "tells defects of the code from settings, dependencies and memory by what an instance wrote before it died",
    causes: [CODE_DEFECT, CONFIGURATION_ERROR, DEPENDENCY_UNAVAILABLE, OUT_OF_MEMORY],
    symptoms: [],
    classify: |evidence| Case::all(evidence).iter().flat_map(causes::claims).collect(),
}

shakedown_core::classifier! {
    /// What is seen of failing start-ups.
    pub struct StartupSymptoms;
    id: "smd.startup-symptoms",
    summary: "counts database phases that timed out, lifespans that broke down, exits with code 3, restart loops",
    causes: [],
    symptoms: [
        PHASE3_TIMEOUT,
        LIFESPAN_BREAKDOWN,
        EXIT_CODE_3,
        RESTART_LOOP,
        STARTUP_FAILED,
        INSTANCE_KILLED,
    ],
    classify: |evidence| Case::all(evidence).iter().flat_map(symptoms::claims).collect(),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shakedown_core::classify::ClassifierSpec as _;

    use super::*;

    #[test]
    fn signals_have_ids_of_their_own_and_speak_for_causes_this_crate_may_claim() {
        let ids: BTreeSet<_> = signals::TABLE.signals.iter().map(|signal| signal.id).collect();
        assert_eq!(ids.len(), signals::TABLE.signals.len());
        for signal in signals::TABLE.signals {
            if let Some(cause) = signal.cause() {
                assert!(StartupCauses::META.causes.contains(&cause), "{}", signal.id);
            }
        }
    }
}
