//! The JSON Schema of an environment file.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::tables::{
    CredentialRef, Database, Identity, Lab, LoadBalancer, Monitoring, Network, Results, Safety,
    Service, Tls,
};
use crate::registry::{Registry, SchemaFn};

/// The JSON Schema of an environment file for what `registry` holds.
pub fn schema(registry: &Registry) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut tables = BTreeMap::<String, Value>::new();
    fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
        generator.subschema_for::<T>().to_value()
    }
    tables.insert("environment".into(), of::<Identity>(&mut generator));
    tables.insert("database".into(), of::<Database>(&mut generator));
    tables.insert("services".into(), of::<BTreeMap<String, Service>>(&mut generator));
    tables.insert("network".into(), of::<Network>(&mut generator));
    tables.insert("load_balancer".into(), of::<LoadBalancer>(&mut generator));
    tables.insert("tls".into(), of::<Tls>(&mut generator));
    tables.insert("credentials".into(), of::<BTreeMap<String, CredentialRef>>(&mut generator));
    tables.insert("safety".into(), of::<Safety>(&mut generator));
    tables.insert("monitoring".into(), of::<Monitoring>(&mut generator));
    tables.insert("results".into(), of::<Results>(&mut generator));
    tables.insert("lab".into(), of::<Lab>(&mut generator));
    for section in registry.sections() {
        let mut schema = (section.schema)(&mut generator).to_value();
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".into(), section.summary.into());
        }
        tables.insert(section.name.into(), schema);
    }
    let mut group = |name: &str, entries: Vec<(&str, SchemaFn)>| {
        let properties: Map<String, Value> = entries
            .into_iter()
            .map(|(id, schema)| (id.to_owned(), schema(&mut generator).to_value()))
            .collect();
        let schema = json!({ "type": "object", "properties": properties });
        tables.insert(name.to_owned(), schema);
    };
    group("probes", registry.probes().map(|p| (p.meta.id, p.schema)).collect());
    group("monitors", registry.monitors().map(|m| (m.meta.id, m.schema)).collect());
    group("safety_checks", registry.safety_checks().map(|s| (s.meta.id, s.schema)).collect());
    let definitions = generator.take_definitions(true);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "shakedown environment",
        "type": "object",
        "properties": tables,
        "$defs": definitions,
    })
}

/// The JSON Schema of one configuration type, with everything it refers to inside.
pub fn config_schema(schema: SchemaFn) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    schema(&mut settings.into_generator()).to_value()
}
