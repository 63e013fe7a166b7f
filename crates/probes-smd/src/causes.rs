//! Why a start-up may fail, and what is seen of it. Only classifiers claim these.

shakedown_core::terms! {
    /// The code itself: a module, a name, a call that is wrong. No infrastructure helps.
    CODE_DEFECT: Cause = "code_defect", CODE_DEFECT_META,
        "A defect in the deployed code",
        "the deployed image imports, starts and answers without an unhandled programming error";
    /// A setting that is missing, wrong, or does not fit another's.
    CONFIGURATION_ERROR: Cause = "configuration_error", CONFIGURATION_ERROR_META,
        "A setting is missing or wrong",
        "every setting the service needs is there, and settings shared between services are equal";
    /// Something else the service needs does not answer.
    DEPENDENCY_UNAVAILABLE: Cause = "dependency_unavailable", DEPENDENCY_UNAVAILABLE_META,
        "A dependency does not answer",
        "what the service cannot work without answers within its limits";
    /// The process needs more memory than its container has.
    OUT_OF_MEMORY: Cause = "out_of_memory", OUT_OF_MEMORY_META,
        "The container's memory does not suffice",
        "the process stays below its container's memory limit";
    /// The database phase of the start-up ended in a timeout.
    PHASE3_TIMEOUT: Symptom = "smd_phase3_timeout", PHASE3_TIMEOUT_META,
        "The start-up's database phase timed out",
        "the database phase of the start-up completes";
    /// The framework gave up the application's start-up.
    LIFESPAN_BREAKDOWN: Symptom = "fastapi_lifespan_breakdown", LIFESPAN_BREAKDOWN_META,
        "The application's lifespan start-up failed",
        "the framework reports that the application's start-up is complete";
    /// The container exited with code 3: any failed start-up of uvicorn or gunicorn does.
    EXIT_CODE_3: Symptom = "container_exit_code_3", EXIT_CODE_3_META,
        "The container exited with code 3",
        "the container runs until the platform stops it";
    /// Start-up after start-up fails.
    RESTART_LOOP: Symptom = "restart_loop", RESTART_LOOP_META,
        "The container restarts again and again",
        "an instance that starts stays";
    /// A start-up failed in a phase or way no other symptom names.
    STARTUP_FAILED: Symptom = "startup_failed", STARTUP_FAILED_META,
        "A start-up failed",
        "every start-up completes";
    /// An instance was killed.
    INSTANCE_KILLED: Symptom = "instance_killed", INSTANCE_KILLED_META,
        "An instance was killed by the platform or the kernel",
        "instances end by themselves or when they are asked to";
}
