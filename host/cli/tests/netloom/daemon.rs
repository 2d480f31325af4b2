//! A server on a unix socket that gives the answers it was told, and remembers what it was asked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, response::IntoResponse};
use serde::Serialize;
use serde_json::Value;

/// A request that arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// `POST /v1/endpoints`
    pub(crate) route: String,
    /// Null without one.
    pub(crate) body: Value,
}

#[derive(Default)]
struct Shared {
    answers: BTreeMap<String, (u16, String)>,
    requests: Mutex<Vec<Request>>,
}

/// What the daemon will answer.
#[derive(Default)]
pub(crate) struct Answers(Shared);

impl Answers {
    pub(crate) fn ok(self, route: &str, answer: &impl Serialize) -> Self {
        self.raw(route, 200, serde_json::to_string(answer).unwrap())
    }

    pub(crate) fn raw(mut self, route: &str, status: u16, body: impl Into<String>) -> Self {
        self.0.answers.insert(route.to_owned(), (status, body.into()));
        self
    }

    pub(crate) fn serve(self) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("netloomd.sock");
        let shared = Arc::new(self.0);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = {
            let _context = runtime.enter();
            tokio::net::UnixListener::bind(&socket).unwrap()
        };
        runtime.spawn(async move { axum::serve(listener, router).await });
        Daemon { folder, socket, shared, _runtime: runtime }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: axum::http::Method,
    uri: axum::http::Uri,
    body: Bytes,
) -> impl IntoResponse {
    let route = format!("{method} {uri}");
    let body = serde_json::from_slice(&body).unwrap_or_default();
    shared.requests.lock().unwrap().push(Request { route: route.clone(), body });
    match shared.answers.get(&route) {
        Some((status, body)) => (StatusCode::from_u16(*status).unwrap(), body.clone()),
        None => (StatusCode::NOT_FOUND, format!(r#"{{"error": "this test has no answer to {route}"}}"#)),
    }
}

/// It serves until it is dropped.
pub(crate) struct Daemon {
    folder: tempfile::TempDir,
    socket: PathBuf,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    /// A folder that is empty but for the socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs netloom in that folder.
    pub(crate) fn netloom(&self, arguments: &[&str]) -> Ran {
        self.run(Path::new(BINARY), arguments)
    }

    /// Runs this netloom in that folder.
    pub(crate) fn run(&self, netloom: &Path, arguments: &[&str]) -> Ran {
        Ran::new(
            Command::new(netloom)
                .current_dir(self.folder())
                .arg("--socket")
                .arg(&self.socket)
                .args(arguments),
        )
    }

    /// What arrived so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The one request that arrived.
    pub(crate) fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_netloom");

/// What became of a run of netloom.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn new(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } =
            command.env_remove("NETLOOM_SOCKET").env_remove("NETLOOM_INSTANCE").output().unwrap();
        Self {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Its stdout, if it succeeded and had nothing to complain about.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    /// Its stderr, if it failed with this code and had nothing to say on stdout.
    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{}", self.stderr);
        self.stderr
    }
}
