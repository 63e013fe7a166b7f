//! The strategy's own names: its test nodes, its command lines, and what became of each.
//!
//! One table each, from which the selection, `list --unmapped` and the guide are made.

use std::collections::BTreeSet;

use shakedown_core::Registry;

/// A class of the strategy's tests. None of these files was ever written.
pub(crate) struct TestClass {
    pub(crate) file: &'static str,
    pub(crate) class: &'static str,
    pub(crate) tests: &'static [&'static str],
    /// Why those of its tests that no probe answers have none.
    pub(crate) without_probe: &'static str,
}

const IN_APPLICATION: &str = "tests the application's own code with mocks; what it asks is read from a \
                              real start-up by the other probes of run phase 3";
const SIMULATION: &str =
    "simulates the failure it looks for; the lab's scenarios produce it for real";
const NO_SOURCE: &str = "needs the connector's own metrics, which only Google's API has; this version \
                         does not read it";
const PHASE_3: &str = "what it asks is part of another probe of run phase 3";
const PHASE_4: &str = "a part of another name's question: run phase 4 answers it there";

/// Every test name in circulation around the strategy.
pub(crate) const TESTS: &[TestClass] = &[
    TestClass {
        file: "netra_backend/tests/unit/test_issue_1278_smd_phase3_timeout_reproduction.py",
        class: "TestSMDPhase3TimeoutReproduction",
        tests: &[
            "test_phase3_20_second_timeout_failure",
            "test_phase3_75_second_extended_timeout_failure",
            "test_phase3_timeout_error_propagation",
            "test_phase3_deterministic_startup_error_creation",
            "test_phase3_blocks_subsequent_phases",
            "test_phase3_circuit_breaker_state_transitions",
        ],
        without_probe: IN_APPLICATION,
    },
    TestClass {
        file: "netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py",
        class: "TestDatabaseInitializationIntegration",
        tests: &[
            "test_cloud_sql_connection_establishment_timing",
            "test_vpc_connector_capacity_simulation",
            "test_connection_pool_exhaustion_handling",
            "test_progressive_retry_mechanism_validation",
            "test_capacity_aware_timeout_configuration",
            "test_database_session_factory_resilience",
        ],
        without_probe: SIMULATION,
    },
    TestClass {
        file: "tests/connectivity/test_issue_1278_vpc_connector_validation.py",
        class: "TestVPCConnectorValidation",
        tests: &[
            "test_vpc_connector_capacity_monitoring",
            "test_vpc_connector_scaling_delay_measurement",
            "test_direct_cloud_sql_connectivity",
            "test_vpc_connector_state_detection",
            "test_connection_latency_measurement",
            "test_vpc_connector_throughput_limits",
        ],
        without_probe: NO_SOURCE,
    },
    TestClass {
        file: "tests/integration/test_issue_1278_cloud_sql_pool_behavior.py",
        class: "TestCloudSQLPoolBehavior",
        tests: &[
            "test_connection_pool_limit_enforcement",
            "test_connection_acquisition_timeout_patterns",
            "test_pool_exhaustion_recovery_behavior",
            "test_concurrent_connection_pressure_simulation",
            "test_connection_pool_metrics_monitoring",
            "test_pool_size_optimization_validation",
        ],
        without_probe: SIMULATION,
    },
    TestClass {
        file: "tests/integration/test_issue_1278_fastapi_lifespan_behavior.py",
        class: "TestFastAPILifespanBehavior",
        tests: &[
            "test_lifespan_startup_failure_handling",
            "test_lifespan_context_breakdown_graceful",
            "test_lifespan_timeout_behavior",
            "test_lifespan_error_propagation",
            "test_lifespan_startup_event_validation",
            "test_lifespan_exception_handling",
        ],
        without_probe: PHASE_3,
    },
    TestClass {
        file: "tests/e2e/test_issue_1278_container_exit_behavior.py",
        class: "TestContainerExitBehavior",
        tests: &[
            "test_container_exit_code_3_on_smd_failure",
            "test_container_restart_loop_detection",
            "test_startup_failure_log_analysis",
            "test_container_resource_cleanup_on_failure",
            "test_container_exit_timing_patterns",
            "test_container_health_check_failure_propagation",
        ],
        without_probe: PHASE_3,
    },
    TestClass {
        file: "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py",
        class: "TestSMDSequenceStagingValidation",
        tests: &[
            "test_complete_smd_7_phase_sequence_under_load",
            "test_smd_phase3_timeout_reproduction_staging",
            "test_staging_infrastructure_capacity_monitoring",
            "test_smd_phase_dependency_validation",
            "test_staging_vpc_connector_pressure_measurement",
            "test_staging_cloud_sql_connection_patterns",
        ],
        without_probe: PHASE_3,
    },
    TestClass {
        file: "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py",
        class: "TestGoldenPathPipelineValidation",
        tests: &[
            "test_golden_path_pipeline_availability_impact",
            "test_user_login_to_ai_response_flow_under_pressure",
            "test_500k_arr_pipeline_offline_validation",
            "test_golden_path_recovery_after_infrastructure_resolution",
            "test_pipeline_failure_business_impact_measurement",
            "test_staging_environment_availability_monitoring",
        ],
        without_probe: PHASE_4,
    },
    TestClass {
        file: "tests/e2e/test_issue_1278_staging_startup_failure_reproduction.py",
        class: "StagingStartupFailureIssue1278E2ETests",
        tests: &[
            "test_vpc_connector_capacity_pressure_during_startup",
            "test_cloud_sql_pool_exhaustion_during_startup",
            "test_infrastructure_metrics_collection_during_failure",
            "test_fastapi_lifespan_breakdown_monitoring",
        ],
        without_probe: PHASE_3,
    },
    TestClass {
        file: "netra_backend/tests/unit/test_issue_1278_smd_phase3_database_timeout_unit.py",
        class: "SMDPhase3DatabaseTimeoutIssue1278Tests",
        tests: &[
            "test_vpc_connector_capacity_simulation_unit",
            "test_progressive_retry_mechanism_unit",
            "test_circuit_breaker_state_transitions_unit",
            "test_timeout_configuration_edge_cases_unit",
            "test_error_context_preservation_unit",
        ],
        without_probe: IN_APPLICATION,
    },
    TestClass {
        file: "tests/e2e/test_smd_phase3_timeout_staging_gcp.py",
        class: "TestSMDPhase3TimeoutStagingGCP",
        tests: &[
            "test_infrastructure_monitoring_integration",
            "test_business_impact_measurement_integration",
            "test_recovery_scenarios_after_timeout_resolution",
            "test_performance_metrics_collection_during_failure",
        ],
        without_probe: PHASE_3,
    },
];

/// One command line of the strategy.
pub(crate) struct StrategyCommand {
    /// The strategy's number or heading.
    pub(crate) step: &'static str,
    /// Its title.
    pub(crate) title: &'static str,
    /// What the strategy says to type.
    pub(crate) original: &'static str,
    /// What follows `shakedown run` instead.
    pub(crate) arguments: &'static [&'static str],
}

/// Every command line of the strategy that runs tests.
pub(crate) const COMMANDS: &[StrategyCommand] = &[
    StrategyCommand {
        step: "1.1",
        title: "Basic network connectivity",
        original: "python tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_direct_cloud_sql_connectivity -v",
        arguments: &[
            "tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_direct_cloud_sql_connectivity",
            "-v",
        ],
    },
    StrategyCommand {
        step: "1.2",
        title: "VPC connector health check",
        original: "python tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_vpc_connector_capacity_monitoring -v",
        arguments: &[
            "tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_vpc_connector_capacity_monitoring",
            "-v",
        ],
    },
    StrategyCommand {
        step: "1.3",
        title: "Staging service endpoints validation",
        original: "python -m pytest tests/e2e/staging/ -k \"connectivity\" -v --tb=short",
        arguments: &["tests/e2e/staging/", "-k", "connectivity", "-v", "--tb=short"],
    },
    StrategyCommand {
        step: "2.1",
        title: "Cloud SQL connection pool testing",
        original: "python tests/integration/test_issue_1278_cloud_sql_pool_behavior.py::TestCloudSQLPoolBehavior::test_connection_pool_limit_enforcement -v",
        arguments: &[
            "tests/integration/test_issue_1278_cloud_sql_pool_behavior.py::TestCloudSQLPoolBehavior::test_connection_pool_limit_enforcement",
            "-v",
        ],
    },
    StrategyCommand {
        step: "2.2",
        title: "Database initialization under pressure",
        original: "python netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py::TestDatabaseInitializationIntegration::test_cloud_sql_connection_establishment_timing -v",
        arguments: &[
            "netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py::TestDatabaseInitializationIntegration::test_cloud_sql_connection_establishment_timing",
            "-v",
        ],
    },
    StrategyCommand {
        step: "2.3",
        title: "Progressive retry mechanism validation",
        original: "python netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py::TestDatabaseInitializationIntegration::test_progressive_retry_mechanism_validation -v",
        arguments: &[
            "netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py::TestDatabaseInitializationIntegration::test_progressive_retry_mechanism_validation",
            "-v",
        ],
    },
    StrategyCommand {
        step: "3.1",
        title: "Complete SMD sequence testing",
        original: "python tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_complete_smd_7_phase_sequence_under_load -v -m staging",
        arguments: &[
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_complete_smd_7_phase_sequence_under_load",
            "-v",
            "-m",
            "staging",
        ],
    },
    StrategyCommand {
        step: "3.2",
        title: "SMD Phase 3 timeout reproduction",
        original: "python tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_smd_phase3_timeout_reproduction_staging -v -m staging",
        arguments: &[
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_smd_phase3_timeout_reproduction_staging",
            "-v",
            "-m",
            "staging",
        ],
    },
    StrategyCommand {
        step: "3.3",
        title: "Infrastructure capacity monitoring during failure",
        original: "python tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_staging_infrastructure_capacity_monitoring -v -m staging",
        arguments: &[
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_staging_infrastructure_capacity_monitoring",
            "-v",
            "-m",
            "staging",
        ],
    },
    StrategyCommand {
        step: "4.1",
        title: "Golden Path pipeline availability testing",
        original: "python tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_golden_path_pipeline_availability_impact -v -m staging",
        arguments: &[
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_golden_path_pipeline_availability_impact",
            "-v",
            "-m",
            "staging",
        ],
    },
    StrategyCommand {
        step: "4.2",
        title: "User login to AI response flow testing",
        original: "python tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_user_login_to_ai_response_flow_under_pressure -v -m staging",
        arguments: &[
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_user_login_to_ai_response_flow_under_pressure",
            "-v",
            "-m",
            "staging",
        ],
    },
    StrategyCommand {
        step: "4.3",
        title: "$500K+ ARR pipeline offline validation",
        original: "python tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_500k_arr_pipeline_offline_validation -v -m staging",
        arguments: &[
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_500k_arr_pipeline_offline_validation",
            "-v",
            "-m",
            "staging",
        ],
    },
    StrategyCommand {
        step: "Fast feedback mode",
        title: "Quick validation (5-10 minutes)",
        original: "python tests/unified_test_runner.py --execution-mode fast_feedback --test-pattern \"*issue_1278*\" --env staging --no-docker --real-services",
        arguments: &[
            "--execution-mode",
            "fast_feedback",
            "--test-pattern",
            "*issue_1278*",
            "--env",
            "staging",
            "--no-docker",
            "--real-services",
        ],
    },
    StrategyCommand {
        step: "Full suite",
        title: "Complete execution (60-90 minutes)",
        original: "python tests/unified_test_runner.py --categories unit integration e2e --test-pattern \"*issue_1278*\" --env staging --no-docker --real-services --collect-metrics --output-format detailed",
        arguments: &[
            "--categories",
            "unit",
            "integration",
            "e2e",
            "--test-pattern",
            "*issue_1278*",
            "--env",
            "staging",
            "--no-docker",
            "--real-services",
            "--collect-metrics",
            "--output-format",
            "detailed",
        ],
    },
    StrategyCommand {
        step: "Staging e2e mode",
        title: "Staging environment focused testing (45-75 minutes)",
        original: "python tests/unified_test_runner.py --categories e2e --env staging --markers staging --test-pattern \"*issue_1278*staging*\" --no-docker --real-services --infrastructure-monitoring --business-impact-analysis",
        arguments: &[
            "--categories",
            "e2e",
            "--env",
            "staging",
            "--markers",
            "staging",
            "--test-pattern",
            "*issue_1278*staging*",
            "--no-docker",
            "--real-services",
            "--infrastructure-monitoring",
            "--business-impact-analysis",
        ],
    },
    StrategyCommand {
        step: "Result collection",
        title: "Test result collection script",
        original: "python tests/unified_test_runner.py --categories unit integration e2e --test-pattern \"*issue_1278*\" --env staging --output-format json --collect-metrics --infrastructure-monitoring",
        arguments: &[
            "--categories",
            "unit",
            "integration",
            "e2e",
            "--test-pattern",
            "*issue_1278*",
            "--env",
            "staging",
            "--output-format",
            "json",
            "--collect-metrics",
            "--infrastructure-monitoring",
        ],
    },
];

/// Commands of the strategy that do not exist as written, and what to do instead.
pub(crate) const NOT_AS_WRITTEN: &[(&str, &str)] = &[
    (
        "the test files named above",
        "none of them was ever written; their node ids are names our probes answer to",
    ),
    (
        "gcloud monitoring metrics list --filter=\"resource.type=gce_instance AND ...\"",
        "gcloud has no command of that name, and a serverless connector is no gce_instance: its \
         series are vpcaccess.googleapis.com/connector/*. The session's vpc_connector_metrics.json \
         holds what our monitors measured",
    ),
    (
        "gcloud sql operations list --instance=netra-staging-db --format=json",
        "exists, but lists administrative operations (backups, restarts), not metrics; the \
         session's cloud_sql_operations.json holds what the monitor read from the server",
    ),
    (
        "python scripts/generate_issue_1278_test_report.py --session-id ... --results-dir ...",
        "was never written; every run writes report.html and summary.md itself",
    ),
];

/// Conclusions the strategy or its users drew that a run here does not support.
pub(crate) const NOT_CONCLUDED: &[(&str, &str)] = &[
    (
        "all unit tests pass, so it is infrastructure",
        "a component tested alone says nothing about the image that was deployed",
    ),
    (
        "test failure is success",
        "a failed probe is a finding; whether a failure was reproduced is a verdict of its own",
    ),
    (
        "the connector is at 250 connections, so it is saturated",
        "no source for such a limit was found; capacity is claimed from capacity facts only",
    ),
    (
        "connecting took 8 s, which is normal",
        "5-10 s and 25 s are upper bounds of the strategy, not health; a healthy login takes milliseconds",
    ),
    (
        "max_connections is 162 by default",
        "the documented default for 7.5 GB is 400; it is read from the server",
    ),
    (
        "the connector scales in after 180 s",
        "connectors do not scale in; a shrunken one was recreated",
    ),
    (
        "the container exited with 3, so it was the database",
        "3 is any start-up failure of uvicorn or gunicorn; what the same instance wrote before it decides",
    ),
];

/// The node id of one of the strategy's tests, as pytest writes it.
pub(crate) fn node_id(class: &TestClass, test: &str) -> String {
    format!("{}::{}::{test}", class.file, class.class)
}

/// The test names that no probe of `registry` answers to, each with the reason.
pub(crate) fn unmapped(registry: &Registry) -> Vec<(String, &'static str)> {
    let answered: BTreeSet<&str> =
        registry.probes().flat_map(|probe| probe.meta.aliases.iter().copied()).collect();
    let mut unmapped = Vec::new();
    for class in TESTS {
        for test in class.tests {
            let node = node_id(class, test);
            if !answered.contains(node.as_str()) {
                unmapped.push((node, class.without_probe));
            }
        }
    }
    unmapped
}

/// The node ids of one step of the strategy, for example `3.2`; `None` when there is no such step.
pub(crate) fn step(number: &str) -> Option<&'static StrategyCommand> {
    COMMANDS.iter().find(|command| command.step == number)
}

#[cfg(test)]
mod tests {
    use shakedown_core::meta::RunPhase;
    use shakedown_core::monitor::MetricMeta;

    use super::*;
    use crate::commands;

    /// What every command line of the strategy selects, as typed after `python ...` is taken off.
    #[test]
    fn every_command_line_selects_what_the_strategy_means() {
        let registry = Registry::linked().expect("no duplicates");
        let mut text = String::new();
        for command in COMMANDS {
            let selected = commands::selected_by(command, &registry).join(" ");
            text.push_str(&format!("{}: {selected}\n", command.step));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_arguments_are_the_strategys_own() {
        for command in COMMANDS {
            let mut words = command.original.split_whitespace().map(|word| word.replace('"', ""));
            assert_eq!(words.next().as_deref(), Some("python"), "{}", command.original);
            let words: Vec<String> = words.collect();
            let typed = command.arguments.join(" ");
            let original = words.join(" ");
            let original = original
                .strip_prefix("-m pytest ")
                .or_else(|| original.strip_prefix("tests/unified_test_runner.py "))
                .unwrap_or(&original);
            assert_eq!(typed, original);
        }
    }

    #[test]
    fn the_issues_pattern_selects_all_and_the_narrower_one_fewer() {
        let registry = Registry::linked().expect("no duplicates");
        let count = |pattern: &'static str| {
            let arguments: &'static [&'static str] = Box::leak(Box::new(["-k", pattern]));
            let command = StrategyCommand { step: "", title: "", original: "", arguments };
            commands::selected_by(&command, &registry).len()
        };
        assert_eq!(count("*issue_1278*"), registry.probes().count());
        assert!((1..count("*issue_1278*")).contains(&count("*issue_1278*staging*")));
    }

    /// The strategy's section on monitoring, by its dictionaries.
    const METRICS: [(&str, [&str; 6]); 3] = [
        (
            "vpc.connector",
            [
                "concurrent_connections",
                "throughput_utilization",
                "scaling_events",
                "connection_latency",
                "capacity_pressure_indicators",
                "error_rates",
            ],
        ),
        (
            "cloudsql.instance",
            [
                "active_connections",
                "connection_pool_utilization",
                "query_latency",
                "connection_errors",
                "resource_utilization",
                "lock_contention",
            ],
        ),
        (
            "smd.application",
            [
                "smd_phase_timing",
                "startup_sequence_duration",
                "error_propagation_timing",
                "resource_cleanup_duration",
                "memory_usage_patterns",
                "thread_pool_utilization",
            ],
        ),
    ];

    #[test]
    fn every_metric_has_its_monitor_and_its_definition() {
        let registry = Registry::linked().expect("no duplicates");
        for (id, names) in METRICS {
            let monitor = registry.monitors().find(|entry| entry.meta.id == id).expect(id);
            for name in names {
                let named = |metric: &&MetricMeta| metric.strategy_name == Some(name);
                let metrics: Vec<_> = monitor.meta.metrics.iter().filter(named).collect();
                let [metric] = metrics.as_slice() else { panic!("{id}: {name}: {metrics:?}") };
                assert!(metric.definition.len() > 20, "{name}: {}", metric.definition);
                assert_eq!(metric.id.split_once('.').map(|(_, name)| name), Some(name));
            }
        }
    }

    #[test]
    fn every_name_is_answered_or_has_a_reason() {
        let registry = Registry::linked().expect("no duplicates");
        let total: usize = TESTS.iter().map(|class| class.tests.len()).sum();
        let unmapped = unmapped(&registry);
        assert_eq!(total, 61);
        assert!(unmapped.len() < total, "some are answered");
        let known: BTreeSet<String> = TESTS
            .iter()
            .flat_map(|class| class.tests.iter().map(|test| node_id(class, test)))
            .collect();
        for probe in registry.probes().filter(|probe| probe.meta.phase <= RunPhase::Impact) {
            for alias in probe.meta.aliases.iter().filter(|alias| alias.contains("issue_1278")) {
                assert!(known.contains(*alias), "{}: no such test: {alias}", probe.meta.id);
            }
        }
    }
}
