use netloom_api::{
    Client,
    types::{EndpointMigrated, EndpointMigration, EndpointSpec, EndpointView, Trace, TraceQuery},
};

use super::attachment::done;
use crate::{
    args::{EndpointAdd, EndpointCommand, EndpointMigrate, EndpointSet},
    failure::Failure,
    output::Output,
    route::encoded,
};

pub(super) async fn run(client: &Client, command: EndpointCommand, output: &Output) -> Result<(), Failure> {
    match command {
        EndpointCommand::Add(args) => {
            output.show(&client.post::<EndpointView>("/v1/endpoints", &spec(args)).await?)
        }
        EndpointCommand::List => {
            output.show(client.get::<Vec<EndpointView>>("/v1/endpoints").await?.as_slice())
        }
        EndpointCommand::Show { name } => {
            output.show(&client.get::<EndpointView>(&format!("/v1/endpoints/{}", encoded(&name))).await?)
        }
        EndpointCommand::Set(EndpointSet { name, change }) => {
            let route = format!("/v1/endpoints/{}", encoded(&name));
            output.show(&client.patch::<EndpointView>(&route, &change.change()).await?)
        }
        EndpointCommand::Migrate(EndpointMigrate { name, mode, mac }) => {
            let route = format!("/v1/endpoints/{}/migrate", encoded(&name));
            output.show(&client.post::<EndpointMigrated>(&route, &EndpointMigration { mode, mac }).await?)
        }
        EndpointCommand::Trace { name, to, from, length } => {
            let route = format!("/v1/endpoints/{}/trace", encoded(&name));
            let query = TraceQuery { to: to.vip, protocol: to.protocol, from, length };
            output.show(&client.post::<Trace>(&route, &query).await?)
        }
        EndpointCommand::Delete { name } => {
            done(output, &client.delete(&format!("/v1/endpoints/{}", encoded(&name))).await?)
        }
    }
}

fn spec(args: EndpointAdd) -> EndpointSpec {
    EndpointSpec {
        name: args.name,
        netns: args.netns,
        interface: args.interface,
        addresses: args.addresses,
        mac: args.mac,
        runtime_class: args.runtime_class,
        virtual_machine: args.virtual_machine,
        mtu: args.mtu,
        default_route: args.default_route,
        routes: args.routes,
        labels: args.labels.into_iter().collect(),
    }
}
