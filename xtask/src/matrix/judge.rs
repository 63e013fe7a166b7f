//! What a diagnosis got right and wrong about a scenario.

use serde_json::Value;

use super::Cell;
use super::play::{Container, Played};

/// Says that no cause is.
const NONE: &str = "(none)";

/// What is wrong about a cell.
#[derive(Debug)]
pub(super) struct Judgement {
    /// True root and found root, of every service that has one.
    pub(super) roots: Vec<(String, String)>,
    /// One sentence each.
    pub(super) misses: Vec<String>,
}

impl Judgement {
    /// A cell that could not be played.
    pub(super) fn broken(scenario: &Value, why: String) -> Self {
        let expected = scenario["expect"]["root"].as_str().unwrap_or(NONE);
        Self { roots: vec![(expected.into(), "(not played)".into())], misses: vec![why] }
    }

    /// One line about the cell, and one for every miss.
    pub(super) fn line(&self, name: &str, seed: u64, seconds: f64) -> String {
        let word = if self.misses.is_empty() { "right" } else { "MISS " };
        let roots: Vec<_> = self.roots.iter().map(|(_, found)| found.as_str()).collect();
        let mut text =
            format!("{word} {name:<28} seed {seed:<5} {seconds:>5.1} s  {}", roots.join(", "));
        for miss in &self.misses {
            text.push_str("\n      ");
            text.push_str(miss);
        }
        text
    }
}

/// Compares everything about a cell.
pub(super) fn judge(cell: &Cell, played: &Played) -> Judgement {
    let Some(container) = &played.container else {
        return service(&cell.scenario, &played.diagnosis);
    };
    let mut scenario = cell.scenario.clone();
    if exit_code(cell) != Some(3)
        && let Some(symptoms) = scenario["expect"]["symptoms"].as_array_mut()
    {
        symptoms.retain(|symptom| symptom != "container_exit_code_3");
    }
    let mut judgement = service(&scenario, &played.diagnosis);
    judgement.misses.extend(exits(cell, &played.diagnosis, container));
    judgement.misses.extend(output(&cell.scenario, &container.diagnosis));
    judgement
}

/// With what a real server ends. uvicorn ends with 3 when the lifespan fails, and so does a worker of
/// gunicorn that does not boot; where an import fails, bare uvicorn is a Python program like any.
fn exit_code(cell: &Cell) -> Option<i64> {
    let uvicorn = cell.backend.as_ref().is_some_and(|program| program.ends_with("uvicorn"));
    match cell.name.as_str() {
        "healthy" | "swallowed-startup-failure" => None,
        "code-defect-import" if uvicorn => Some(1),
        _ => Some(3),
    }
}

/// Whether both told the real exit code: the process itself, and the diagnosis of every start-up that
/// ended.
fn exits(cell: &Cell, diagnosis: &Value, container: &Container) -> Vec<String> {
    let wanted = exit_code(cell);
    let mut misses = Vec::new();
    if container.exit_code.map(i64::from) != wanted {
        misses.push(format!("the process ends with {wanted:?}, not {:?}", container.exit_code));
    }
    let startups = of_service(diagnosis, "backend")["startups"].as_array().into_iter().flatten();
    let told: Vec<_> = startups.filter_map(|startup| startup["exit_code"].as_i64()).collect();
    let right = match wanted {
        Some(wanted) => !told.is_empty() && told.iter().all(|code| *code == wanted),
        None => told.is_empty(),
    };
    if !right {
        misses.push(format!("start-ups end with {wanted:?}; told: {told:?}"));
    }
    misses
}

/// Whether the application's output alone, without a platform's or a probe's word, leads to the root.
fn output(scenario: &Value, diagnosis: &Value) -> Option<String> {
    let services = diagnosis["services"].as_array().into_iter().flatten();
    let found: Vec<_> = services.flat_map(|service| all_roots(service)).collect();
    let expected = scenario["expect"]["root"].as_str();
    if found.first().copied() == expected {
        return None;
    }
    Some(format!("the output alone tells {}, not {}", list(&found), expected.unwrap_or(NONE)))
}

/// Compares the scenario with the diagnosis of its service.
fn service(scenario: &Value, diagnosis: &Value) -> Judgement {
    let expect = &scenario["expect"];
    let service = expect["service"].as_str().unwrap_or("backend");
    let found = of_service(diagnosis, service);
    let mut misses = Vec::new();
    let mut roots = Vec::new();

    let mut compare = |of: &str, expected: &str, found: &Value| {
        let first = supported(found).next().unwrap_or(NONE).to_owned();
        if first != expected {
            let verdict = found["verdict"].as_str().unwrap_or("absent");
            misses.push(format!(
                "{of}: the root is {expected}, found {first} (verdict {verdict}, all roots: {})",
                list(&all_roots(found))
            ));
        }
        roots.push((expected.to_owned(), first));
    };
    // Where the root needs a figure nobody gives, what can be told without it is right.
    let told = expect["told"].as_str().or(expect["root"].as_str());
    compare(service, told.unwrap_or(NONE), found);
    if let Some(elsewhere) = expect["elsewhere"].as_object() {
        for (other, root) in elsewhere {
            compare(other, root.as_str().unwrap_or(NONE), of_service(diagnosis, other));
        }
    }
    for also in strings(&expect["also"]) {
        if !supported(found).any(|root| root == also) {
            misses.push(format!("{also} is a root, too, and is not found"));
        }
    }
    if expect["root"].is_null() && found["verdict"] != "healthy" {
        misses.push(format!("nothing is wrong, the verdict is {}", found["verdict"]));
    }
    for decoy in strings(&expect["decoys"]) {
        if supported(found).any(|root| root == decoy) {
            misses.push(format!("{decoy} is a decoy and is blamed"));
        }
    }
    let symptoms = names(&found["symptoms"], "symptom");
    for symptom in strings(&expect["symptoms"]) {
        if !symptoms.contains(&symptom) {
            misses.push(format!("the symptom {symptom} is not seen; seen: {}", list(&symptoms)));
        }
    }
    let masked = names(&found["masked"], "cause");
    for cause in strings(&expect["masked"]) {
        if !masked.contains(&cause) {
            misses.push(format!("{cause} is masked; told to be so: {}", list(&masked)));
        }
    }
    if let Some(limit) = expect["limit"].as_str() {
        let fired = names(&found["startups"], "limit");
        let is = |fired: &&str| {
            fired.contains(limit) || (limit == "initialization" && fired.starts_with("the claimed"))
        };
        if !fired.iter().any(is) {
            misses.push(format!("the limit {limit} fired; told: {}", list(&fired)));
        }
    }
    Judgement { roots, misses }
}

fn of_service<'d>(diagnosis: &'d Value, name: &str) -> &'d Value {
    let services = diagnosis["services"].as_array().into_iter().flatten();
    services.into_iter().find(|service| service["service"] == name).unwrap_or(&Value::Null)
}

/// The causes that are blamed.
fn supported(service: &Value) -> impl Iterator<Item = &str> {
    let roots = service["roots"].as_array().into_iter().flatten();
    roots.filter(|root| root["status"] == "supported").filter_map(|root| root["cause"].as_str())
}

fn all_roots(service: &Value) -> Vec<&str> {
    names(&service["roots"], "cause")
}

fn names<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    list.as_array().into_iter().flatten().filter_map(|item| item[key].as_str()).collect()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { NONE.into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn diagnosis(roots: Value, verdict: &str) -> Value {
        json!({ "services": [
            { "service": "auth", "verdict": "healthy", "roots": [] },
            { "service": "backend", "verdict": verdict, "roots": roots, "masked": [],
              "symptoms": [{ "symptom": "restart_loop" }],
              "startups": [{ "limit": "table_setup 1 s" }] },
        ]})
    }

    #[test]
    fn what_is_right_has_no_miss() {
        let roots = json!([{ "cause": "a", "status": "supported" }, { "cause": "b", "status": "undetermined" }]);
        let scenario = json!({ "expect": {
            "root": "a", "symptoms": ["restart_loop"], "decoys": ["b"], "limit": "table_setup",
        }});
        let judgement = service(&scenario, &diagnosis(roots, "failing"));
        assert_eq!(judgement.misses, Vec::<String>::new());
        assert_eq!(judgement.roots, [("a".to_owned(), "a".to_owned())]);
        let healthy = service(&json!({ "expect": {} }), &diagnosis(json!([]), "healthy"));
        assert!(healthy.misses.is_empty());
    }

    #[test]
    fn every_kind_of_miss_is_told() {
        let roots = json!([{ "cause": "b", "status": "supported" }]);
        let scenario = json!({ "expect": {
            "root": "a", "also": ["c"], "masked": ["d"], "symptoms": ["e"], "decoys": ["b"],
            "limit": "initialization", "elsewhere": { "auth": "f" },
        }});
        let judgement = service(&scenario, &diagnosis(roots, "failing"));
        assert_eq!(judgement.misses.len(), 7, "{:#?}", judgement.misses);
        let absent = service(&json!({ "expect": {} }), &json!({ "services": [] }));
        assert_eq!(absent.misses.len(), 1, "a service that is not in the diagnosis is not healthy");
    }
}
