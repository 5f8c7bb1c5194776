//! What gateways hold, side by side.
//!
//! Pure: tables and Agents in, rows and differences out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Characters of a version that tell it from others.
const SHORT: usize = 8;

/// One page of a gateway's `/debug/routes`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    freshness: String,
    age_seconds: Option<f64>,
    dials: String,
    routes: Vec<Route>,
    pub(crate) next: Option<String>,
}

/// A route as a gateway holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Route {
    name: String,
    version: String,
    #[serde(default)]
    scaled_to_zero: bool,
    endpoint_count: usize,
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    refused: Vec<Refusal>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    address: String,
    in_flight: u32,
    standing_streams: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Refusal {
    address: String,
    reason: String,
}

/// All that one gateway holds.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    freshness: String,
    age_seconds: Option<f64>,
    dials: String,
    routes: BTreeMap<String, Route>,
}

/// One gateway's answer.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) gateway: String,
    pub(crate) table: Result<Table, String>,
}

/// What is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    gateways: Vec<GatewayRow>,
    agents: Vec<AgentRow>,
    /// Where gateways differ from each other or from what Agents' statuses say, a sentence each.
    pub(crate) differences: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GatewayRow {
    name: String,
    /// `live`, `lost`, `fromDisk`, `empty`; `null` where it did not answer.
    table: Option<String>,
    age_seconds: Option<f64>,
    dials: Option<String>,
    agents: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentRow {
    name: String,
    /// `metadata.generation`; `null` where there is no such Agent.
    generation: Option<i64>,
    /// The condition `Programmed`: `True`, or its reason.
    programmed: Option<String>,
    /// By gateway; gateways that lack it are absent.
    routes: BTreeMap<String, Route>,
}

// === impl Table ===

impl Table {
    /// Whether the gateway has received no routes yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.freshness == "empty"
    }

    /// With the first page.
    pub(crate) fn of(page: Page) -> Self {
        let mut table = Self {
            freshness: page.freshness.clone(),
            age_seconds: page.age_seconds,
            dials: page.dials.clone(),
            routes: BTreeMap::new(),
        };
        table.add(page);
        table
    }

    /// With one more.
    pub(crate) fn add(&mut self, page: Page) {
        self.routes.extend(page.routes.into_iter().map(|route| (route.name.clone(), route)));
    }
}

// === impl View ===

impl View {
    /// `asked` side by side with `agents`; of `namespace` only, where one is given.
    pub(crate) fn of(asked: &[Asked], agents: &[Value], namespace: Option<&str>) -> Self {
        let tables: Vec<(&str, &Table)> =
            asked.iter().filter_map(|one| Some((one.gateway.as_str(), one.table.as_ref().ok()?))).collect();
        let statuses: BTreeMap<String, &Value> = agents.iter().map(|agent| (name_of(agent), agent)).collect();
        let mut names: BTreeSet<&str> = statuses.keys().map(String::as_str).collect();
        names.extend(tables.iter().flat_map(|(_, table)| table.routes.keys()).map(String::as_str));
        names.retain(|name| namespace.is_none_or(|wanted| name.split('/').next() == Some(wanted)));

        let mut differences: Vec<String> = asked.iter().filter_map(gateway_trouble).collect();
        let mut rows = Vec::new();
        for name in names {
            let routes: BTreeMap<String, Route> = tables
                .iter()
                .filter_map(|(gateway, table)| Some(((*gateway).to_owned(), table.routes.get(name)?.clone())))
                .collect();
            let agent = statuses.get(name).copied();
            let row = AgentRow {
                name: name.to_owned(),
                generation: agent.and_then(|agent| agent.pointer("/metadata/generation")?.as_i64()),
                programmed: agent.map(programmed),
                routes,
            };
            differences.extend(row.differences(&tables, agent.is_some()));
            rows.push(row);
        }
        let gateways = asked.iter().map(GatewayRow::of).collect();
        Self { gateways, agents: rows, differences }
    }

    /// Tables for people.
    pub(crate) fn text(&self, endpoints: bool) -> String {
        let mut lines = vec![["GATEWAY", "TABLE", "AGE", "AGENTS", "DIALS"].map(str::to_owned).to_vec()];
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        lines.extend(self.gateways.iter().map(|row| {
            vec![
                row.name.clone(),
                row.table.clone().unwrap_or_else(|| "unknown".to_owned()),
                or_dash(row.age_seconds.map(|age| format!("{age:.0}s"))),
                or_dash(row.agents.map(|agents| agents.to_string())),
                or_dash(row.dials.clone()),
            ]
        }));
        let mut text = columns(&lines);
        let mut lines =
            vec![["AGENT", "PROGRAMMED", "VERSION", "ENDPOINTS", "GATEWAYS"].map(str::to_owned).to_vec()];
        let answered = self.gateways.iter().filter(|row| row.table.is_some()).count();
        lines.extend(self.agents.iter().map(|row| row.line(answered)));
        write!(text, "\n{}", columns(&lines)).expect("a string takes what is written");
        if endpoints {
            self.write_endpoints(&mut text);
        }
        if !self.differences.is_empty() {
            text.push_str("\nDifferences:\n");
            for difference in &self.differences {
                writeln!(text, "  {difference}").expect("a string takes what is written");
            }
        }
        text
    }

    fn write_endpoints(&self, text: &mut String) {
        let mut lines =
            vec![["AGENT", "GATEWAY", "ENDPOINT", "IN FLIGHT", "STREAMS"].map(str::to_owned).to_vec()];
        for row in &self.agents {
            for (gateway, route) in &row.routes {
                lines.extend(route.endpoints.iter().map(|one| {
                    let counts = (one.in_flight.to_string(), one.standing_streams.to_string());
                    vec![row.name.clone(), gateway.clone(), one.address.clone(), counts.0, counts.1]
                }));
            }
        }
        write!(text, "\n{}", columns(&lines)).expect("a string takes what is written");
    }
}

// === impl GatewayRow ===

impl GatewayRow {
    fn of(asked: &Asked) -> Self {
        let table = asked.table.as_ref().ok();
        Self {
            name: asked.gateway.clone(),
            table: table.map(|table| table.freshness.clone()),
            age_seconds: table.and_then(|table| table.age_seconds),
            dials: table.map(|table| table.dials.clone()),
            agents: table.map(|table| table.routes.len()),
        }
    }
}

// === impl AgentRow ===

impl AgentRow {
    fn line(&self, gateways: usize) -> Vec<String> {
        let versions: BTreeSet<&str> = self.routes.values().map(|route| route.version.as_str()).collect();
        let counts: BTreeSet<usize> = self.routes.values().map(|route| route.endpoint_count).collect();
        let version = match versions.first() {
            None => "-".to_owned(),
            Some(version) if versions.len() == 1 => short(version).to_owned(),
            Some(_) => "differs".to_owned(),
        };
        let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
        let off = self.routes.values().any(|route| route.scaled_to_zero);
        vec![
            self.name.clone(),
            self.programmed.clone().unwrap_or_else(|| "(no Agent)".to_owned()),
            version,
            if off { "off".to_owned() } else { counts.join("/") },
            format!("{} of {gateways}", self.routes.len()),
        ]
    }

    fn differences(&self, tables: &[(&str, &Table)], exists: bool) -> Vec<String> {
        let mut differences = Vec::new();
        let name = &self.name;
        let lack: Vec<&str> = tables
            .iter()
            .map(|(gateway, _)| *gateway)
            .filter(|gateway| !self.routes.contains_key(*gateway))
            .collect();
        let is_programmed = self.programmed.as_deref() == Some("True");
        if !lack.is_empty() && (!self.routes.is_empty() || is_programmed) {
            differences.push(format!("{name}: {} does not hold it", lack.join(", ")));
        }
        if !exists && !self.routes.is_empty() {
            let holders: Vec<&str> = self.routes.keys().map(String::as_str).collect();
            differences.push(format!("{name}: {} holds it, but there is no such Agent", holders.join(", ")));
        }
        if exists && !is_programmed && !tables.is_empty() {
            let reason = self.programmed.as_deref().unwrap_or_default();
            differences.push(format!("{name}: its status says that it is not programmed ({reason})"));
        }
        let versions: BTreeSet<&str> = self.routes.values().map(|route| route.version.as_str()).collect();
        if versions.len() > 1 {
            let held: Vec<String> = self
                .routes
                .iter()
                .map(|(gateway, route)| format!("{gateway} {}", short(&route.version)))
                .collect();
            differences.push(format!("{name}: gateways hold different versions: {}", held.join(", ")));
        }
        for (gateway, route) in &self.routes {
            differences.extend(route.refused.iter().map(|refused| {
                format!("{name}: {gateway} refuses the endpoint {}: {}", refused.address, refused.reason)
            }));
        }
        differences
    }
}

/// `agents` in `namespaces`, which the controllers look at; all where it is empty.
pub(crate) fn watched(mut agents: Vec<Value>, namespaces: &[String]) -> Vec<Value> {
    let of = |agent: &Value| agent.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned);
    agents.retain(|agent| namespaces.is_empty() || of(agent).is_some_and(|of| namespaces.contains(&of)));
    agents
}

/// What is wrong with a gateway's table as a whole.
fn gateway_trouble(asked: &Asked) -> Option<String> {
    let gateway = &asked.gateway;
    match &asked.table {
        Err(why) => Some(format!("{gateway} cannot be asked: {why}")),
        Ok(table) => match table.freshness.as_str() {
            "live" => None,
            "lost" => Some(format!("{gateway} has lost the controller and goes by what it knew last")),
            "fromDisk" => {
                Some(format!("{gateway} has not reached a controller and goes by its snapshot file"))
            }
            "empty" => Some(format!("{gateway} has not received its routes yet")),
            other => Some(format!("{gateway} says of its table: {other}")),
        },
    }
}

/// `True`, or why not.
fn programmed(agent: &Value) -> String {
    let conditions = agent.pointer("/status/conditions").and_then(Value::as_array);
    let condition = conditions.into_iter().flatten().find(|condition| condition["type"] == "Programmed");
    let text = |field: &str| condition.and_then(|condition| condition[field].as_str()).unwrap_or_default();
    match text("status") {
        "True" => "True".to_owned(),
        "" => "Unknown".to_owned(),
        _ => text("reason").to_owned(),
    }
}

fn name_of(agent: &Value) -> String {
    let text =
        |field: &str| agent.pointer("/metadata").and_then(|meta| meta[field].as_str()).unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

fn short(version: &str) -> &str {
    version.get(..SHORT).unwrap_or(version)
}

/// Cells in columns that are as wide as their widest cell.
fn columns(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (index, cell) in line.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())
            .expect("a string takes what is written");
    }
    text
}

#[cfg(test)]
mod tests;
