//! The explanation of one request, as data.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ExplainError;
use super::asked::Asked;
use crate::http::{RequestHead, Scheme, path};
use crate::http1::{self, HeaderStorage};
use crate::ids::{ClusterId, VirtualHostId, WorkerId};
use crate::net::Stream;
use crate::net::runtime::Driver;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::ProxyError;
use crate::proxy::request::{self, Decision, Plan};
use crate::proxy::scratch::Scratch;
use crate::proxy::{ListenerSlot, Replica, WorkerContext, header_edits, local_reply};
use crate::router::RouteTable;
use crate::snapshot::{
    Chain, ChainContent, Destination, Forward, Listener, RetryPolicy, Route, RouteAction, Serves,
    Snapshot,
};
use crate::upstream::{ClusterStates, Pick, SharedClusters};

/// How often chance is asked for a destination that it has not led to. One that gets a thousandth of
/// the requests is missed by one explanation in sixty.
const CHANCES_MAX: u64 = 4096;
const MILLION: u32 = 1_000_000;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The request.
    pub asked: Asked,
    /// The port that it comes in on, as a Gateway writes it, unless that of its URL.
    pub port: Option<u16>,
    /// The port of the socket that it comes in on, if one listens there.
    pub bound_port: Option<u16>,
    /// The client's address.
    pub client: IpAddr,
    /// When it comes.
    pub at: Instant,
}

/// A configuration that questions are answered by.
pub struct Table(Rc<Replica>);

/// What stands in for a worker.
pub struct Explainer {
    context: Rc<WorkerContext>,
    /// A connection that nothing is sent on: a request has one.
    stream: Stream,
}

impl Explainer {
    /// Must run on a runtime of [`crate::net::runtime`].
    ///
    /// # Errors
    /// When the system refuses a connection on loopback.
    pub async fn new(driver: Driver) -> io::Result<Explainer> {
        let context = WorkerContext::new(WorkerId(0), driver, None);
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = socket.local_addr()?;
        let stream =
            crate::net::connect::connect(address, Duration::from_secs(5), driver, None).await?;
        Ok(Explainer { context, stream })
    }

    /// Answer by this configuration.
    pub fn load(&self, snapshot: Snapshot) -> Table {
        self.context.clock.follow_wall_clock();
        let shared = SharedClusters::new(&snapshot, &SharedClusters::default());
        let mut random = self.context.random.borrow_mut();
        let clusters = ClusterStates::new(&snapshot, &shared, None, &mut random, 0);
        drop(random);
        Table(Rc::new(Replica { snapshot, clusters, ..Replica::default() }))
    }

    /// Hold no configuration any longer.
    pub fn forget(&self) {
        *self.context.replica.borrow_mut() = Rc::default();
    }

    /// Explain. The same question to the same table gets the same answer: what the workers leave to
    /// chance comes from fixed seeds here.
    ///
    /// # Errors
    /// See [`ExplainError`].
    pub fn explain(&self, table: &Table, question: &Question) -> Result<Value, ExplainError> {
        let mut answer = self.outcome(table, question)?;
        let snapshot = &table.0.snapshot;
        let door = door(snapshot, question)?;
        with_head(snapshot, &door, &question.asked.head, |table, head| {
            let explained = table.find_explained(head);
            if explained.virtual_host.is_none() {
                return;
            }
            let routes = explained.routes.iter().map(|outcome| {
                let names = &snapshot.route(outcome.route).names;
                json!({
                    "name": names.route,
                    "virtualService": names.virtual_service,
                    "mismatch": outcome.mismatch.map(|mismatch| mismatch.to_string()),
                })
            });
            answer["routes"] = routes.collect();
        });
        Ok(answer)
    }

    /// The same without the routes that do not match.
    ///
    /// # Errors
    /// See [`ExplainError`].
    pub fn outcome(&self, table: &Table, question: &Question) -> Result<Value, ExplainError> {
        let replica = &table.0;
        let snapshot = &replica.snapshot;
        let door = door(snapshot, question)?;
        let opened = door.listener;
        *self.context.replica.borrow_mut() = Rc::clone(replica);
        let slot = match door.chain {
            None => ListenerSlot::new(opened.address, snapshot),
            Some(chain) => ListenerSlot::of_chain(opened.address, chain, snapshot),
        };
        let client = SocketAddr::new(question.client, 0);
        let request = Request {
            context: &self.context,
            replica,
            downstream: Downstream::new(self.stream.clone(), client, Rc::new(slot)),
            question,
        };
        let mut answer = json!({
            "listener": {
                "address": opened.address.to_string(),
                "name": opened.name,
                "numbers": opened.numbers,
                "gateways": opened.gateways,
            },
        });
        with_head(snapshot, &door, &question.asked.head, |table, head| {
            let found = virtual_host(table, table.find_virtual_host(head.authority));
            if !found.is_null() {
                answer["virtualHost"] = found;
            }
        });
        let mut scratch = self.context.take_scratch();
        let outcome = request.outcome(&mut scratch);
        if outcome.is_ok() {
            request.describe_route(&mut answer, &scratch);
        }
        self.context.give_scratch(scratch);
        let Outcome { sent, reply } = outcome?;
        if let Some(destinations) = answer["destinations"].as_array_mut() {
            for (position, destination) in destinations.iter_mut().enumerate() {
                if let Some(sent) = sent.get(&position) {
                    destination["request"] = sent.head.as_str().into();
                    destination["response"] = sent.response.clone();
                }
            }
        }
        // Of several destinations the first stands for all.
        if let Some((position, first)) = sent.first_key_value() {
            answer["upstreamRequest"] = first.head.as_str().into();
            if let Some(reply) = answer["destinations"][position].get("reply").cloned() {
                answer["reply"] = reply;
            }
        } else if let Some(reply) = reply {
            answer["reply"] = reply;
        }
        Ok(answer)
    }
}

/// What goes upstream for a destination, and what its route does to the response.
struct Sent {
    head: String,
    response: Value,
}

/// What a request may come to.
#[derive(Default)]
struct Outcome {
    /// By destination, as far as chance led there.
    sent: BTreeMap<usize, Sent>,
    /// What the gateway says, if no destination is led to.
    reply: Option<Value>,
}

/// One request on its way.
struct Request<'a> {
    context: &'a WorkerContext,
    replica: &'a Rc<Replica>,
    downstream: Downstream,
    question: &'a Question,
}

impl Request<'_> {
    /// Decide as a worker would, again while chance may decide otherwise.
    fn outcome(&self, scratch: &mut Scratch) -> Result<Outcome, ExplainError> {
        let mut outcome = Outcome::default();
        let bytes = &self.question.asked.head;
        for seed in 0..CHANCES_MAX {
            *self.context.random.borrow_mut() = fastrand::Rng::with_seed(seed);
            let at = self.question.at;
            match request::prepare(self.context, &self.downstream, bytes, scratch, at) {
                Decision::Incomplete => return Err(ExplainError::Incomplete),
                Decision::Configured { plan, route, .. } => {
                    outcome.reply = Some(self.configured(&plan, route.index(), scratch));
                    break;
                }
                Decision::Reply { plan, error, .. } => {
                    let reply = || self.reply(plan.as_ref(), error, scratch);
                    outcome.reply.get_or_insert_with(reply);
                }
                Decision::Forward { .. } => {
                    if let Entry::Vacant(unknown) = outcome.sent.entry(scratch.destination) {
                        unknown.insert(self.sent(scratch));
                    }
                }
            }
            if outcome.sent.len() >= self.reachable(scratch) {
                break;
            }
        }
        Ok(outcome)
    }

    /// How many destinations chance can lead to.
    fn reachable(&self, scratch: &Scratch) -> usize {
        let Some((route, forward)) = self.forward(scratch) else { return 0 };
        let fault = route.policy.as_deref().and_then(|policy| policy.fault);
        if fault.is_some_and(|fault| fault.abort_ppm >= MILLION) {
            return 0;
        }
        let reached = |destination: &&crate::snapshot::Destination| {
            destination.cluster.is_some() && (destination.weight > 0 || is_one(forward))
        };
        forward.destinations().iter().filter(reached).count()
    }

    /// The route that was found, if it forwards.
    fn forward(&self, scratch: &Scratch) -> Option<(&Route, &Forward)> {
        let route = self.replica.snapshot.route(scratch.info.route?);
        match &route.action {
            RouteAction::Forward(forward) => Some((route, forward)),
            RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
        }
    }

    fn sent(&self, scratch: &mut Scratch) -> Sent {
        let head = String::from_utf8_lossy(&scratch.request).into_owned();
        // The route's part of a response is what it adds to a bare one, which takes no time.
        scratch.info.started = Instant::now();
        scratch.response.clear();
        scratch.response.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
        scratch.info.response_code = 200;
        scratch.info.details = "via_upstream";
        header_edits::edit_response(scratch, &self.downstream);
        let added = fields(&scratch.response);
        let position = scratch.destination;
        let changes = self
            .forward(scratch)
            .and_then(|(route, _)| route.policy.as_deref()?.destinations.get(position));
        let is_added = |name: &str| {
            let names = added.iter().filter_map(|field| field.split(':').next());
            names.into_iter().any(|added| added.eq_ignore_ascii_case(name))
        };
        let removed: Vec<&str> = changes
            .iter()
            .flat_map(|changes| changes.response.drop.iter())
            .map(|name| &**name)
            .filter(|name| !is_added(name))
            .collect();
        Sent { head, response: json!({ "add": added, "remove": removed }) }
    }

    /// What the gateway says itself.
    fn reply(&self, plan: Option<&Plan>, error: ProxyError, scratch: &mut Scratch) -> Value {
        let keep_alive = plan.is_some_and(|plan| plan.keep_alive);
        let keep_alive = keep_alive && !error.answer().close;
        scratch.info.started = Instant::now();
        local_reply::write_error(self.context, &self.downstream, plan, error, keep_alive, scratch);
        let mut reply = reply_of_error(error);
        reply["headers"] = fields(&scratch.response).into();
        reply
    }

    /// What a route answers itself.
    fn configured(&self, plan: &Plan, route: usize, scratch: &mut Scratch) -> Value {
        let action = &self.replica.snapshot.routes[route].action;
        scratch.info.started = Instant::now();
        local_reply::write_configured(
            self.context,
            &self.downstream,
            plan,
            action,
            plan.keep_alive,
            scratch,
        );
        let mut reply = json!({
            "status": scratch.info.response_code,
            "flags": scratch.info.flags.to_string(),
            "details": scratch.info.details,
            "headers": fields(&scratch.response),
        });
        match action {
            RouteAction::Redirect(_) => {
                reply["location"] = String::from_utf8_lossy(&scratch.location).into();
            }
            RouteAction::DirectResponse(direct) => {
                reply["body"] = String::from_utf8_lossy(&direct.body).into();
            }
            RouteAction::Forward(_) => {}
        }
        reply
    }

    /// Why nothing can be sent to a destination, if nothing can.
    fn error_of(&self, cluster: Option<ClusterId>) -> Option<ProxyError> {
        let Some(cluster) = cluster else { return Some(ProxyError::NoCluster) };
        let state = self.replica.clusters.get(cluster);
        let configured = self.replica.snapshot.cluster(cluster);
        if configured.resolved.is_some() && configured.endpoints.is_empty() {
            // What its name is resolved to is not known here.
            return None;
        }
        let any = Pick { tried: &[], avoid_tried: true, elsewhere: false, hash: None };
        let picked = state.pick(configured, &mut self.context.random.borrow_mut(), &any, 0);
        picked.is_none().then_some(ProxyError::NoHealthyUpstream)
    }

    /// What the route that was found does with requests, if it sends them on.
    fn describe_route(&self, answer: &mut Value, scratch: &Scratch) {
        let snapshot = &self.replica.snapshot;
        if let Some(route) = scratch.info.route {
            let names = &snapshot.route(route).names;
            answer["route"] =
                json!({ "name": names.route, "virtualService": names.virtual_service });
        }
        let Some((route, forward)) = self.forward(scratch) else { return };
        let all = forward.destinations().iter().map(|destination| {
            let mut told = describe_destination(snapshot, forward, destination);
            if let Some(error) = self.error_of(destination.cluster) {
                told["reply"] = reply_of_error(error);
            }
            told
        });
        answer["destinations"] = all.collect();
        answer["timeoutMs"] = scratch.timeout_ms.into();
        let default = &snapshot.settings.default_retries;
        let policy = route.policy.as_deref();
        answer["retries"] = retries(policy.map_or(default, |policy| &policy.retries));
        let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
        let mirrors = policy.iter().flat_map(|policy| &policy.mirrors).map(|mirror| {
            json!({
                "cluster": snapshot.cluster(mirror.cluster).name,
                "percent": percent(mirror.ppm),
            })
        });
        answer["mirrors"] = mirrors.collect();
        if let Some(fault) = policy.and_then(|policy| policy.fault) {
            answer["fault"] = json!({
                "delayPercent": percent(fault.delay_ppm),
                "delayMs": fault.delay_ms,
                "abortPercent": percent(fault.abort_ppm),
                "abortStatus": ProxyError::FaultAbort(fault.abort).answer().status,
            });
        }
    }
}

/// A destination of `forward`: its cluster, its share and its endpoints.
pub(super) fn describe_destination(
    snapshot: &Snapshot,
    forward: &Forward,
    destination: &Destination,
) -> Value {
    let cluster = destination.cluster.map(|cluster| snapshot.cluster(cluster));
    let endpoints = cluster.iter().flat_map(|cluster| &cluster.endpoints).map(
        |endpoint| json!({ "address": endpoint.address.to_string(), "healthy": endpoint.healthy }),
    );
    let percent = match forward {
        Forward::One(_) => 100.0,
        Forward::Several { total_weight, .. } => {
            f64::from(destination.weight) * 100.0 / *total_weight as f64
        }
    };
    json!({
        "cluster": cluster.map(|cluster| &cluster.name),
        "percent": percent,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "resolvedAtRunTime": cluster
            .and_then(|cluster| cluster.resolved.as_ref())
            .map(|resolved| &resolved.names),
    })
}

fn is_one(forward: &Forward) -> bool {
    matches!(forward, Forward::One(_))
}

/// Where a request comes in.
struct Door<'s> {
    listener: &'s Listener,
    /// The chain of a port that takes TLS.
    chain: Option<&'s Chain>,
    route_table: usize,
}

impl Door<'_> {
    fn scheme(&self) -> Scheme {
        if self.chain.is_some() { Scheme::Https } else { Scheme::Http }
    }
}

/// Where a request comes in: by the port that was told, or the one of its URL, as Gateways write it or
/// as it is bound. Of TLS the host, which a client names as its server, chooses the chain.
fn door<'s>(snapshot: &'s Snapshot, question: &Question) -> Result<Door<'s>, ExplainError> {
    let asked = &question.asked;
    let port = question.port.unwrap_or(asked.port);
    let open: Vec<&Listener> = snapshot
        .listeners
        .iter()
        .filter(|listener| match listener.serves {
            Serves::Requests { .. } => !asked.tls,
            Serves::Tls(_) => asked.tls,
            Serves::Bytes(_) => false,
        })
        .collect();
    let bound_to = |port: u16| open.iter().find(|opened| opened.address.port() == port);
    let named = |port: u16| open.iter().find(|opened| opened.numbers.contains(&port));
    let told = question.bound_port.and_then(bound_to);
    let listener: &Listener =
        match (told.or_else(|| named(port)).or_else(|| bound_to(port)), &open[..]) {
            (Some(found), _) | (None, [found]) => found,
            (None, []) => {
                let kind = if asked.tls { "HTTPS" } else { "HTTP in clear text" };
                return Err(ExplainError::NoListener(kind));
            }
            (None, _) => {
                let open = super::ports(open.iter().copied());
                return Err(ExplainError::NoSuchPort { port, open });
            }
        };
    match &listener.serves {
        Serves::Requests { route_table, .. } => {
            Ok(Door { listener, chain: None, route_table: *route_table })
        }
        Serves::Tls(tls) => {
            let host = asked.host();
            let chain = tls.find(Some(&host)).and_then(|at| tls.chains.get(at));
            match chain.map(|chain| (chain, &chain.content)) {
                Some((chain, ChainContent::Requests { route_table })) => {
                    Ok(Door { listener, chain: Some(chain), route_table: *route_table })
                }
                Some(_) => Err(ExplainError::NotRequests { host, port }),
                None => Err(ExplainError::NoSuchServer { host, port }),
            }
        }
        Serves::Bytes(_) => Err(ExplainError::NoListener("requests")),
    }
}

/// Look `bytes` up in a route table as workers do, and do something with both.
fn with_head(
    snapshot: &Snapshot,
    door: &Door<'_>,
    bytes: &[u8],
    then: impl FnOnce(&RouteTable, &RequestHead<'_>),
) {
    let mut storage = HeaderStorage::new();
    let Ok(Some(parsed)) = http1::parse_request(bytes, &mut storage, door.scheme()) else { return };
    let mut buffer = Vec::new();
    let mode = snapshot.settings.path_normalization;
    let Ok(path) = path::normalize(parsed.head.path, mode, &mut buffer) else { return };
    if let Some(table) = snapshot.route_tables.get(door.route_table) {
        then(table, &RequestHead { path, ..parsed.head });
    }
}

fn virtual_host(table: &RouteTable, id: Option<VirtualHostId>) -> Value {
    let found = id.and_then(|id| table.virtual_host(id));
    found.map_or(Value::Null, |found| json!({ "name": found.name, "domains": found.domains }))
}

fn reply_of_error(error: ProxyError) -> Value {
    let answer = error.answer();
    json!({
        "status": answer.status,
        "flags": answer.flags.to_string(),
        "details": answer.details,
        "body": answer.body,
    })
}

/// The fields of a response head, without the date, which tells nothing.
fn fields(response: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(response);
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let lines = head.lines().skip(1).filter(|line| !line.starts_with("date: "));
    lines.map(str::to_owned).collect()
}

fn retries(policy: &RetryPolicy) -> Value {
    json!({
        "attempts": policy.attempts,
        "perTryTimeoutMs": policy.per_try_timeout_ms,
        "on": policy.on.names().collect::<Vec<_>>(),
        "statusCodes": policy.status_codes,
    })
}
