//! The explanation as text for people.

use serde_json::Value;

/// The answer for people.
pub fn to_text(answer: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<13} {value}\n"));
    let list = |value: &Value| -> String {
        let parts = value.as_array().into_iter().flatten();
        parts.map(plain).collect::<Vec<_>>().join(", ")
    };
    if let Some(generation) = answer["generation"].as_u64() {
        line("generation", generation.to_string());
    }
    let listener = &answer["listener"];
    let of = list(&listener["gateways"]);
    line("listener", format!("{} of {of}", plain(&listener["address"])));
    if let Some(note) = answer["note"].as_str() {
        line("note", note.to_owned());
    }
    match &answer["virtualHost"] {
        // A connection has none.
        Value::Null if answer.get("serverName").is_some() => {}
        Value::Null => line("virtual host", "none serves this host".to_owned()),
        host => {
            line("virtual host", format!("{} ({})", plain(&host["name"]), list(&host["domains"])))
        }
    }
    for route in answer["routes"].as_array().into_iter().flatten() {
        let name = match plain(&route["name"]) {
            name if name.is_empty() => "unnamed route".to_owned(),
            name => format!("route `{name}`"),
        };
        let outcome = match &route["mismatch"] {
            Value::Null => "matches".to_owned(),
            mismatch => format!("no: {}", plain(mismatch)),
        };
        line("", format!("{name} of {}: {outcome}", plain(&route["virtualService"])));
    }
    for destination in answer["destinations"].as_array().into_iter().flatten() {
        let percent = destination["percent"].as_f64().unwrap_or_default();
        let cluster = match &destination["cluster"] {
            Value::Null => "a destination that does not exist (503 NC)".to_owned(),
            cluster => plain(cluster),
        };
        line("destination", format!("{cluster} ({percent:.4}%)").replace(".0000%", "%"));
        for endpoint in destination["endpoints"].as_array().into_iter().flatten() {
            let state = if endpoint["healthy"] == true { "" } else { " not ready" };
            line("", format!("endpoint {}{state}", plain(&endpoint["address"])));
        }
        for name in destination["resolvedAtRunTime"].as_array().into_iter().flatten() {
            line("", format!("resolved at run time: {}", plain(name)));
        }
        for (what, of) in [("adds", "add"), ("drops", "remove")] {
            for field in destination["response"][of].as_array().into_iter().flatten() {
                line("", format!("response {what} {}", plain(field)));
            }
        }
    }
    for mirror in answer["mirrors"].as_array().into_iter().flatten() {
        line("mirror", format!("{} ({}%)", plain(&mirror["cluster"]), mirror["percent"]));
    }
    if let Some(retries) = answer["retries"].as_object() {
        let time = |value: &Value| match value.as_u64() {
            None => "none".to_owned(),
            Some(milliseconds) => format!("{milliseconds} ms"),
        };
        line("timeout", time(&answer["timeoutMs"]));
        let codes = list(&retries["statusCodes"]);
        let codes = if codes.is_empty() { codes } else { format!(" ({codes})") };
        let each = time(&retries["perTryTimeoutMs"]);
        let on = list(&retries["on"]);
        line("retries", format!("{} on {on}{codes}; each attempt: {each}", retries["attempts"]));
    }
    if let Some(fault) = answer["fault"].as_object() {
        let (delayed, aborted) = (&fault["delayPercent"], &fault["abortPercent"]);
        line(
            "faults",
            format!(
                "{delayed}% wait {} ms, {aborted}% get {}",
                fault["delayMs"], fault["abortStatus"]
            ),
        );
    }
    if let Some(reply) = answer["reply"].as_object() {
        line("answered here", format!("{}", reply["status"]));
        for (name, value) in reply.iter().filter(|(name, value)| *name != "status" && **value != "")
        {
            match value.as_array() {
                None => line("", format!("{name}: {}", plain(value))),
                Some(fields) => fields.iter().for_each(|field| {
                    line("", format!("{} {}", name.trim_end_matches('s'), plain(field)));
                }),
            }
        }
    }
    if let Some(request) = answer["upstreamRequest"].as_str() {
        text.push_str("upstream request\n");
        for field in request.trim_end().lines() {
            text.push_str(&format!("              {field}\n"));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
