//! Bound sockets as an operator sees them: listed by filters, and destroyed by them, without a plugin.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use netloom_api::types::{Fate, ReapReport, ReapedSocket, SocketDestroy, SocketQuery, SocketView};
use netloom_core::model::{BoundSocket, Name, NetnsCookie, ServiceId, SocketFilter};
use netloom_kernel::netns::Netns;

use super::{Reaping, micros};
use crate::{failure::Failure, store::ServiceRecord};

/// Who decided, where no plugin was asked.
const OPERATOR: &str = "operator";

/// Sockets with the names of what they refer to, one at a time: there may be a million.
pub(crate) type BoundSockets = Box<dyn Iterator<Item = SocketView> + Send>;

/// The names of what sockets refer to by number.
pub(crate) struct Labels {
    endpoints: HashMap<NetnsCookie, Name>,
    services: HashMap<ServiceId, Name>,
}

impl Labels {
    pub(crate) fn view(&self, socket: BoundSocket) -> SocketView {
        SocketView {
            endpoint: self.endpoints.get(&socket.netns_cookie).cloned(),
            service_name: self.services.get(&socket.service).cloned(),
            socket,
        }
    }
}

impl Reaping {
    pub(crate) fn labels(&self) -> Result<Labels, Failure> {
        let services = self.store.all::<ServiceRecord>()?.into_iter();
        Ok(Labels {
            endpoints: self.inventory.endpoints_by_cookie()?,
            services: services.map(|(_, record)| (record.id, record.service.name)).collect(),
        })
    }

    /// The bound sockets that a query is about. A destroyed one keeps its binding until its application closes it,
    /// and is not among them.
    pub(crate) async fn bound_sockets(&self, query: &SocketQuery) -> Result<BoundSockets, Failure> {
        let labels = self.labels()?;
        let filter = self.filter(query, &labels)?;
        let found = self.find(filter).await?.into_iter().map(move |socket| labels.view(socket));
        let service = query.service.clone();
        Ok(Box::new(found.filter(move |view| service.is_none() || view.service_name == service)))
    }

    /// Destroys the bound sockets that an operator names.
    pub(crate) async fn destroy_sockets(&self, request: SocketDestroy) -> Result<ReapReport, Failure> {
        let start = Instant::now();
        if request.filter.is_everything() && !request.all && !request.dry_run {
            return Err(Failure::invalid(anyhow::anyhow!(
                "without a filter, every bound socket is destroyed"
            ))
            .hint("narrow it down, try --dry-run, or say --yes"));
        }
        let host = self.netns.cookie()?;
        let names_host = match &request.filter.netns {
            Some(text) => netns_cookie(text)? == host,
            None => false,
        };
        let found = self.bound_sockets(&request.filter).await?;
        let found: Vec<SocketView> =
            found.filter(|view| names_host || view.socket.netns_cookie != host).collect();
        let find = start.elapsed();
        let sockets: Vec<BoundSocket> = found.iter().map(|view| view.socket.clone()).collect();
        let mut fates = vec![request.dry_run.then_some(Fate::WouldDestroy); sockets.len()];
        self.destroy(&sockets, &mut fates).await?;
        let sockets: Vec<ReapedSocket> = found
            .into_iter()
            .zip(fates)
            .map(|(view, fate)| ReapedSocket {
                view,
                fate: fate.unwrap_or_else(|| Fate::Failed("no outcome was reported".into())),
            })
            .collect();
        let total = start.elapsed();
        self.record(&sockets, total, request.dry_run);
        Ok(ReapReport {
            decided_by: Some(OPERATOR.to_owned()),
            dry_run: request.dry_run,
            finder: self.finder(),
            sockets,
            find_us: micros(find),
            total_us: micros(total),
            ..ReapReport::default()
        })
    }

    fn filter(&self, query: &SocketQuery, labels: &Labels) -> Result<SocketFilter, Failure> {
        let mut filter = SocketFilter {
            connected_only: true,
            protocols: query.protocol.into_iter().collect(),
            states: query.state.into_iter().collect(),
            min_age: Duration::from_millis(query.min_age_ms.unwrap_or_default()),
            ..SocketFilter::default()
        };
        if let Some(name) = &query.service {
            let record = self.inventory.service_record(name)?;
            if let Some(backend) = query.backend {
                filter.backends = vec![(backend, record.service.protocol)];
            }
        } else if let Some(backend) = query.backend {
            let protocols = [netloom_core::model::Protocol::Tcp, netloom_core::model::Protocol::Udp];
            filter.backends = protocols.map(|protocol| (backend, protocol)).to_vec();
        }
        if let Some(text) = &query.netns {
            filter.netns_cookies.push(netns_cookie(text)?);
        }
        if let Some(name) = &query.endpoint {
            let cookie = labels.endpoints.iter().find(|(_, endpoint)| *endpoint == name);
            let cookie = cookie.map(|(cookie, _)| *cookie).ok_or_else(|| {
                Failure::not_found(format!("there is no endpoint {name}")).hint("see `netloom endpoint list`")
            })?;
            if filter.netns_cookies.first().is_some_and(|named| *named != cookie) {
                return Err(Failure::invalid(anyhow::anyhow!(
                    "endpoint {name} is not in the namespace that is given as well"
                )));
            }
            filter.netns_cookies = vec![cookie];
        }
        Ok(filter)
    }
}

/// The namespace that an operator names: by its cookie, or by a path.
fn netns_cookie(text: &str) -> Result<NetnsCookie, Failure> {
    if let Ok(cookie) = text.parse() {
        return Ok(NetnsCookie(cookie));
    }
    Netns::open(Path::new(text)).and_then(|netns| netns.cookie()).map_err(Failure::invalid)
}
