//! Why a start-up may fail, and what is seen of it. Only classifiers claim these.

use shakedown_core::classify::CauseMeta;
use shakedown_core::id::{Cause, Symptom};

macro_rules! terms {
    ($($(#[$doc:meta])* $name:ident: $ty:ident = $id:literal, $meta:ident, $symptom:literal, $title:literal, $good:literal;)+) => {$(
        $(#[$doc])*
        pub const $name: $ty = $ty::new($id);
        #[doc = concat!("The description of `", $id, "`.")]
        pub const $meta: CauseMeta =
            CauseMeta { id: $id, symptom: $symptom, title: $title, good_state: $good };
        #[cfg(feature = "register")]
        shakedown_core::register_cause!($meta);
    )+};
}

terms! {
    /// The code itself: a module, a name, a call that is wrong. No infrastructure helps.
    CODE_DEFECT: Cause = "code_defect", CODE_DEFECT_META, false,
        "A defect in the deployed code",
        "the deployed image imports, starts and answers without an unhandled programming error";
    /// A setting that is missing, wrong, or does not fit another's.
    CONFIGURATION_ERROR: Cause = "configuration_error", CONFIGURATION_ERROR_META, false,
        "A setting is missing or wrong",
        "every setting the service needs is there, and settings shared between services are equal";
    /// Something else the service needs does not answer.
    DEPENDENCY_UNAVAILABLE: Cause = "dependency_unavailable", DEPENDENCY_UNAVAILABLE_META, false,
        "A dependency does not answer",
        "what the service cannot work without answers within its limits";
    /// The process needs more memory than its container has.
    OUT_OF_MEMORY: Cause = "out_of_memory", OUT_OF_MEMORY_META, false,
        "The container's memory does not suffice",
        "the process stays below its container's memory limit";
    /// The database phase of the start-up ended in a timeout.
    PHASE3_TIMEOUT: Symptom = "smd_phase3_timeout", PHASE3_TIMEOUT_META, true,
        "The start-up's database phase timed out",
        "the database phase of the start-up completes";
    /// The framework gave up the application's start-up.
    LIFESPAN_BREAKDOWN: Symptom = "fastapi_lifespan_breakdown", LIFESPAN_BREAKDOWN_META, true,
        "The application's lifespan start-up failed",
        "the framework reports that the application's start-up is complete";
    /// The container exited with code 3: any failed start-up of uvicorn or gunicorn does.
    EXIT_CODE_3: Symptom = "container_exit_code_3", EXIT_CODE_3_META, true,
        "The container exited with code 3",
        "the container runs until the platform stops it";
    /// Start-up after start-up fails.
    RESTART_LOOP: Symptom = "restart_loop", RESTART_LOOP_META, true,
        "The container restarts again and again",
        "an instance that starts stays";
    /// A start-up failed in a phase or way no other symptom names.
    STARTUP_FAILED: Symptom = "startup_failed", STARTUP_FAILED_META, true,
        "A start-up failed",
        "every start-up completes";
    /// An instance was killed.
    INSTANCE_KILLED: Symptom = "instance_killed", INSTANCE_KILLED_META, true,
        "An instance was killed by the platform or the kernel",
        "instances end by themselves or when they are asked to";
}
