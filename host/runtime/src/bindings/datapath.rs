use std::net::SocketAddr;

use netloom_core::{
    grants::DatapathGrant,
    model::{Name, Service},
};
use wasmtime::component::Resource;

use super::{
    convert,
    kernel::{datapath, types as wit},
    operations::Answer,
};
use crate::{question::EndpointFacts, state::State};

/// A handle of a service.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct ServiceHandle {
    name: Name,
    address: (wit::SocketAddress, wit::Protocol),
}

impl State {
    fn datapath_grant(&self) -> Answer<DatapathGrant> {
        self.granted("datapath", |grants| grants.datapath.as_ref())
    }

    async fn granted_endpoints(&mut self) -> Answer<Vec<wit::Endpoint>> {
        let grant = self.datapath_grant()?;
        let all = self.operations()?.endpoints().await?;
        let covered = all.iter().filter(|endpoint| grant.covers_endpoint(endpoint.spec.name.as_str()));
        let facts = covered.map(|endpoint| {
            convert::endpoint(EndpointFacts {
                spec: &endpoint.spec,
                netns: endpoint.netns,
                addresses: &endpoint.addresses,
            })
        });
        Ok(facts.collect())
    }

    async fn counters(&mut self, name: &str) -> Answer<datapath::Counters> {
        let grant = self.datapath_grant()?;
        self.check(grant.covers_endpoint(name), "datapath.endpoint-counters", || {
            format!("the endpoint {name}")
        })?;
        let counted = self.operations()?.traffic(name).await?;
        Ok(datapath::Counters {
            sent_packets: counted.sent_packets,
            sent_bytes: counted.sent_bytes,
            received_packets: counted.received_packets,
            received_bytes: counted.received_bytes,
            dropped_packets: counted.dropped_packets,
        })
    }

    async fn granted_services(&self) -> Answer<Vec<Service>> {
        let grant = self.datapath_grant()?;
        let mut services = self.operations()?.services().await?;
        services.retain(|service| grant.covers_service(service.name.as_str()));
        Ok(services)
    }

    async fn service_by_name(&self, name: &str) -> Answer<Service> {
        let grant = self.datapath_grant()?;
        self.check(grant.covers_service(name), "datapath.open-service", || format!("the service {name}"))?;
        let services = self.granted_services().await?;
        let missing = || wit::Error::NotFound(format!("there is no service {name}"));
        services.into_iter().find(|service| service.name.as_str() == name).ok_or_else(missing)
    }

    async fn open_service_handle(&mut self, name: &str) -> Answer<ServiceHandle> {
        let service = self.service_by_name(name).await?;
        Ok(ServiceHandle { address: (service.vip.into(), service.protocol.into()), name: service.name })
    }

    async fn change_backend(
        &mut self,
        handle: &Resource<ServiceHandle>,
        address: wit::SocketAddress,
        add: bool,
    ) -> wasmtime::Result<Answer<()>> {
        self.meter.count_host_call()?;
        let service = self.table().get(handle)?.name.clone();
        let operation = if add { "datapath.add-backend" } else { "datapath.remove-backend" };
        let act = async {
            self.check_mutate(self.datapath_grant()?.access, "datapath", operation)?;
            let (operations, address) = (self.operations()?, SocketAddr::from(address));
            if add {
                operations.add_backend(&self.plugin, &service, address).await?;
            } else {
                operations.remove_backend(&self.plugin, &service, address).await?;
            }
            Ok(())
        };
        Ok(act.await)
    }
}

impl datapath::Host for State {
    async fn endpoints(&mut self) -> wasmtime::Result<Answer<Vec<wit::Endpoint>>> {
        self.meter.count_host_call()?;
        Ok(self.granted_endpoints().await)
    }

    async fn endpoint_counters(&mut self, name: String) -> wasmtime::Result<Answer<datapath::Counters>> {
        self.meter.count_host_call()?;
        Ok(self.counters(&name).await)
    }

    async fn services(&mut self) -> wasmtime::Result<Answer<Vec<String>>> {
        self.meter.count_host_call()?;
        let services = self.granted_services().await;
        Ok(services.map(|services| services.into_iter().map(|service| service.name.to_string()).collect()))
    }

    async fn open_service(&mut self, name: String) -> wasmtime::Result<Answer<Resource<ServiceHandle>>> {
        self.meter.count_host_call()?;
        match self.open_service_handle(&name).await {
            Ok(handle) => Ok(Ok(self.table().push(handle)?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl datapath::HostService for State {
    async fn name(&mut self, handle: Resource<ServiceHandle>) -> wasmtime::Result<String> {
        self.meter.count_host_call()?;
        Ok(self.table().get(&handle)?.name.to_string())
    }

    async fn address(
        &mut self,
        handle: Resource<ServiceHandle>,
    ) -> wasmtime::Result<(wit::SocketAddress, wit::Protocol)> {
        self.meter.count_host_call()?;
        Ok(self.table().get(&handle)?.address)
    }

    async fn backends(
        &mut self,
        handle: Resource<ServiceHandle>,
    ) -> wasmtime::Result<Answer<Vec<wit::Backend>>> {
        self.meter.count_host_call()?;
        let name = self.table().get(&handle)?.name.clone();
        let service = self.service_by_name(name.as_str()).await;
        Ok(service.map(|service| {
            service.backends.iter().map(|address| convert::backend(&service.backend(*address))).collect()
        }))
    }

    async fn add_backend(
        &mut self,
        handle: Resource<ServiceHandle>,
        address: wit::SocketAddress,
    ) -> wasmtime::Result<Answer<()>> {
        self.change_backend(&handle, address, true).await
    }

    async fn remove_backend(
        &mut self,
        handle: Resource<ServiceHandle>,
        address: wit::SocketAddress,
    ) -> wasmtime::Result<Answer<()>> {
        self.change_backend(&handle, address, false).await
    }

    async fn drop(&mut self, handle: Resource<ServiceHandle>) -> wasmtime::Result<()> {
        self.table().delete(handle)?;
        Ok(())
    }
}
