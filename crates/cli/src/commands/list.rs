//! `shakedown list`: what this binary holds.

use anyhow::Result;
use serde_json::{Map, Value, json};
use shakedown_core::environment::{TimeScale, config_schema};
use shakedown_core::registry::{CheckFn, Origin, ProbeEntry, SchemaFn, Term};
use shakedown_core::{Draw, Registry};

use crate::args::ListArgs;
use crate::{exit, output, strategy};

pub(super) fn list(args: &ListArgs, registry: &Registry) -> Result<u8> {
    match (args.unmapped, args.json) {
        (true, true) => {
            let names: Vec<Value> = strategy::unmapped(registry)
                .into_iter()
                .map(|(node, reason)| json!({ "node_id": node, "reason": reason }))
                .collect();
            output::json(&json!({ "schema": "shakedown.unmapped/1", "unmapped": names }))?;
        }
        (true, false) => output::out(&unmapped(registry)),
        (false, true) => output::json(&document(registry))?,
        (false, false) => output::out(&table(registry)),
    }
    Ok(exit::PASSED)
}

fn unmapped(registry: &Registry) -> String {
    let names = strategy::unmapped(registry);
    let mut text = String::new();
    let mut last = "";
    for (node, reason) in &names {
        if *reason != last {
            text.push_str(&format!("\n{reason}:\n"));
            last = reason;
        }
        text.push_str(&format!("  {node}\n"));
    }
    format!("{} of the strategy's test names have no probe.\n{text}", names.len())
}

fn table(registry: &Registry) -> String {
    let mut text = String::new();
    let mut phase = None;
    let mut probes: Vec<&ProbeEntry> = registry.probes().collect();
    probes.sort_by_key(|probe| (probe.meta.phase, probe.meta.id));
    let width = probes.iter().map(|probe| probe.meta.id.len()).max().unwrap_or(0);
    for probe in &probes {
        let meta = probe.meta;
        if phase != Some(meta.phase) {
            phase = Some(meta.phase);
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}Phase {}: {}\n", meta.phase.number(), meta.phase.title()));
        }
        text.push_str(&format!(
            "  {:width$}  {:11}  {}\n",
            meta.id,
            meta.category.as_str(),
            meta.summary
        ));
    }
    let mut part = |title: &str, rows: Vec<(&str, &str)>| {
        if !rows.is_empty() {
            text.push_str(&format!("\n{title}\n"));
        }
        for (id, summary) in rows {
            text.push_str(&format!("  {id:width$}  {summary}\n"));
        }
    };
    part("Monitors", registry.monitors().map(|m| (m.meta.id, m.meta.summary)).collect());
    part("Safety checks", registry.safety_checks().map(|s| (s.meta.id, s.meta.summary)).collect());
    part("Classifiers", registry.classifiers().map(|c| (c.meta.id, c.meta.summary)).collect());
    text.push_str("\nA page for each probe is in docs/probes; --json gives everything.\n");
    text
}

/// Everything known about each entry; what other tools read.
fn document(registry: &Registry) -> Value {
    let probes: Vec<Value> = registry
        .probes()
        .map(|probe| {
            let meta = probe.meta;
            let mut value = json!({
                "id": meta.id,
                "summary": meta.summary,
                "phase": meta.phase,
                "category": meta.category,
                "markers": meta.markers,
                "needs": meta.needs,
                "provides": meta.provides,
                "draws": draws(meta.draws),
                "expected_s": meta.expected.as_secs_f64(),
                "timeout_s": meta.timeout.as_secs_f64(),
                "aliases": meta.aliases,
                "status": meta.status,
            });
            configured(&mut value, probe.origin, probe.schema, probe.check);
            value
        })
        .collect();
    let monitors: Vec<Value> = registry
        .monitors()
        .map(|monitor| {
            let metrics: Vec<Value> = monitor
                .meta
                .metrics
                .iter()
                .map(|metric| {
                    json!({
                        "id": metric.id,
                        "strategy_name": metric.strategy_name,
                        "definition": metric.definition,
                        "unit": metric.unit,
                        "no_source": metric.no_source,
                    })
                })
                .collect();
            let mut value = json!({
                "id": monitor.meta.id,
                "summary": monitor.meta.summary,
                "draws": draws(monitor.meta.draws),
                "metrics": metrics,
            });
            configured(&mut value, monitor.origin, monitor.schema, monitor.check);
            value
        })
        .collect();
    let safety_checks: Vec<Value> = registry
        .safety_checks()
        .map(|check| {
            let mut value = json!({
                "id": check.meta.id,
                "summary": check.meta.summary,
                "draws": draws(check.meta.draws),
            });
            configured(&mut value, check.origin, check.schema, check.check);
            value
        })
        .collect();
    let classifiers: Vec<Value> = registry
        .classifiers()
        .map(|classifier| {
            json!({
                "id": classifier.meta.id,
                "summary": classifier.meta.summary,
                "causes": classifier.meta.causes,
                "symptoms": classifier.meta.symptoms,
                "origin": classifier.origin,
            })
        })
        .collect();
    let sections: Vec<Value> = registry
        .sections()
        .map(|section| {
            let mut value = json!({ "name": section.name, "summary": section.summary });
            configured(&mut value, section.origin, section.schema, section.check);
            value
        })
        .collect();
    let terms: Vec<Value> = registry
        .terms()
        .map(|entry| match entry.term {
            Term::Cause(meta) => json!({
                "id": meta.id,
                "kind": if meta.symptom { "symptom" } else { "cause" },
                "title": meta.title,
                "good_state": meta.good_state,
                "origin": entry.origin,
            }),
            Term::Observation(meta) => json!({
                "id": meta.kind,
                "kind": "observation",
                "summary": meta.summary,
                "origin": entry.origin,
            }),
        })
        .collect();
    json!({
        "schema": "shakedown.list/1",
        "version": env!("CARGO_PKG_VERSION"),
        "probes": probes,
        "monitors": monitors,
        "safety_checks": safety_checks,
        "classifiers": classifiers,
        "sections": sections,
        "terms": terms,
    })
}

fn draws(draws: &[Draw]) -> Map<String, Value> {
    draws.iter().map(|draw| (draw.resource.to_string(), draw.amount.into())).collect()
}

/// Adds where an entry comes from and how it is configured.
fn configured(value: &mut Value, origin: Origin, schema: SchemaFn, check: CheckFn) {
    let (defaults, _) = check(toml::Table::new(), TimeScale::default());
    value["origin"] = json!(origin);
    value["defaults"] = json!(defaults);
    value["config_schema"] = config_schema(schema);
}
