//! A daemon that gives the answers it was told.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use netloom_api::types::ErrorBody;
use serde_json::Value;

#[derive(Default)]
struct Shared {
    answers: BTreeMap<String, (StatusCode, Value)>,
    otherwise: Option<(StatusCode, Value)>,
    asked: Mutex<Vec<String>>,
}

/// What it will answer.
#[derive(Default)]
pub(crate) struct Answers(Shared);

fn refusal(error: &str, hint: &str) -> Value {
    serde_json::to_value(ErrorBody { error: error.to_owned(), hint: Some(hint.to_owned()) }).unwrap()
}

impl Answers {
    /// This to a request, such as `GET /v1/endpoints`.
    pub(crate) fn ok(mut self, request: &str, answer: Value) -> Self {
        self.0.answers.insert(request.to_owned(), (StatusCode::OK, answer));
        self
    }

    /// An error to a request.
    pub(crate) fn refused(mut self, request: &str, error: &str, hint: &str) -> Self {
        let answer = (StatusCode::INTERNAL_SERVER_ERROR, refusal(error, hint));
        self.0.answers.insert(request.to_owned(), answer);
        self
    }

    /// That nothing works yet, to every other request.
    pub(crate) fn starting(mut self) -> Self {
        self.0.otherwise =
            Some((StatusCode::SERVICE_UNAVAILABLE, refusal("netloomd is starting", "try again")));
        self
    }

    pub(crate) fn serve(self) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(self.0);
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
        let listener = {
            let _context = runtime.enter();
            tokio::net::UnixListener::bind(folder.path().join("netloomd.sock")).unwrap()
        };
        runtime.spawn(async move { axum::serve(listener, router).await });
        Daemon { folder, shared, _runtime: runtime }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri) -> Response {
    let request = format!("{method} {uri}");
    shared.asked.lock().unwrap().push(request.clone());
    match shared.answers.get(&request).or(shared.otherwise.as_ref()) {
        Some((status, answer)) => (*status, Json(answer)).into_response(),
        None => (StatusCode::NOT_FOUND, Json(refusal(&request, "none"))).into_response(),
    }
}

/// It serves until it is dropped.
pub(crate) struct Daemon {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("netloomd.sock")
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}
