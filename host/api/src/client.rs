use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, task::JoinHandle};

use crate::{Asked, types::ErrorBody};

/// A request to netloomd failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no netloomd answers on {}: {source}", socket.display())]
    Connect {
        /// The socket's path.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("talking to netloomd on {} failed: {source}", socket.display())]
    Transport {
        /// The socket's path.
        socket: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// netloomd refused.
    #[error("{}", body.error)]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// Why, and the way out.
        body: ErrorBody,
    },
    /// The answer is not what this version understands.
    #[error("netloomd's answer to {route} is not understood; is it of another version?")]
    Answer {
        /// The route asked.
        route: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The request could not be written.
    #[error("the request to {route} cannot be written: {source}")]
    Request {
        /// The route asked.
        route: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClientError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { body, .. } => body.hint.as_deref(),
            Self::Connect { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("the API is for root: try again with sudo")
            }
            Self::Connect { .. } => Some("start it with `netloomd`, or name its socket with --socket"),
            _ => None,
        }
    }
}

/// A client of one netloomd. Each request uses a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon on this socket. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET route`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, ClientError> {
        self.json(Method::GET, route, Bytes::new()).await
    }

    /// `DELETE route`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(&self, route: &str) -> Result<T, ClientError> {
        self.json(Method::DELETE, route, Bytes::new()).await
    }

    /// `POST route` with a JSON body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.with_body(Method::POST, route, body).await
    }

    /// `PUT route` with a JSON body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.with_body(Method::PUT, route, body).await
    }

    /// `PATCH route` with a JSON body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.with_body(Method::PATCH, route, body).await
    }

    async fn with_body<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|source| ClientError::Request { route: route.to_owned(), source: source.into() })?;
        self.json(method, route, body.into()).await
    }

    /// `GET route` as text.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn text(&self, route: &str) -> Result<String, ClientError> {
        let body = self.send(Method::GET, route, Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// `GET route` as it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn bytes(&self, route: &str) -> Result<Bytes, ClientError> {
        self.send(Method::GET, route, Bytes::new()).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answer = self.send(method, route, body).await?;
        serde_json::from_slice(&answer)
            .map_err(|source| ClientError::Answer { route: route.to_owned(), source })
    }

    /// `GET route`, whose answer is lines of JSON that come as they happen.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn lines(&self, route: &str) -> Result<Lines, ClientError> {
        let (answer, connection) = self.ask(Method::GET, route, Bytes::new()).await?;
        let lines = Lines {
            socket: self.socket.clone(),
            route: route.to_owned(),
            body: answer.into_body(),
            read: Vec::new(),
            connection,
        };
        Ok(lines)
    }

    async fn send(&self, method: Method, route: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let (answer, connection) = self.ask(method, route, body).await?;
        let bytes = answer.into_body().collect().await;
        connection.abort();
        let bytes = bytes.map_err(|source| ClientError::Transport { socket: self.socket.clone(), source })?;
        Ok(bytes.to_bytes())
    }

    /// The answer, if it is a success, and the task that reads on.
    async fn ask(
        &self,
        method: Method,
        route: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>), ClientError> {
        let transport = |source| ClientError::Transport { socket: self.socket.clone(), source };
        let asked = Asked::now();
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Connect { socket: self.socket.clone(), source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(transport)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(route)
            .header("host", "netloomd")
            .header("content-type", "application/json")
            .header(Asked::HEADER, asked.0)
            .body(Full::new(body))
            .map_err(|source| ClientError::Request { route: route.to_owned(), source: source.into() })?;
        let answer = sender.send_request(request).await.map_err(transport)?;
        let status = answer.status();
        if status.is_success() {
            return Ok((answer, connection));
        }
        let bytes = answer.into_body().collect().await.map_err(transport)?.to_bytes();
        connection.abort();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| ErrorBody {
            error: format!("netloomd answered {status} to {route}: {}", String::from_utf8_lossy(&bytes)),
            hint: None,
        });
        Err(ClientError::Refused { status, body })
    }
}

/// An answer of lines without end. Whoever drops it goes away.
#[derive(Debug)]
pub struct Lines {
    socket: PathBuf,
    route: String,
    body: Incoming,
    /// Of what has come, what was not given yet.
    read: Vec<u8>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Lines {
    /// Waits for the next line; none when the other side has ended. Nothing is lost if the wait is given up.
    ///
    /// # Errors
    /// [`ClientError::Transport`], [`ClientError::Answer`].
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let parsed = serde_json::from_slice(&line);
                return parsed
                    .map(Some)
                    .map_err(|source| ClientError::Answer { route: self.route.clone(), source });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.read.extend(frame.into_data().unwrap_or_default()),
                Some(Err(source)) => {
                    return Err(ClientError::Transport { socket: self.socket.clone(), source });
                }
                None => return Ok(None),
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
