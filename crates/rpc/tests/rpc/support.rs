//! A pool, its endpoints, and a handler with one method for each behaviour that tests need.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    ByteBuf, NodeId, PoolId, SecretKey, methods,
    pool::{Keyring, PoolKey},
    rpc::{ErrorCode, Load, Method, RpcError},
};
use zero2ai_rpc::{Endpoint, EndpointConfig, Handler, IncomingCall, ReplySink, ServeError};

/// More than any of these tests needs.
pub(crate) const LONG: Duration = Duration::from_secs(15);

methods! {
    /// Gives the request back.
    Echo = 60_001: ByteBuf => ByteBuf;
    /// Counts from 0 to one below the request.
    Count = 60_002: u32 => u32;
    /// Answers only when it is cancelled; says so in [`Answers::cancelled`].
    Hang = 60_003: u32 => u32;
    /// Panics.
    Panic = 60_004: u32 => u32;
    /// Refuses.
    Refuse = 60_005: u32 => u32;
    /// Sends items until nobody takes them.
    Forever = 60_006: u32 => ByteBuf;
    /// Waits for [`Answers::go`], then gives the request back.
    Wait = 60_007: u32 => u32;
    /// Sends one item and hangs without heeding its cancellation.
    Deaf = 60_008: u32 => u32;
    /// Nobody serves it.
    Unknown = 60_009: u32 => u32;
    /// Tells who called.
    Whoami = 60_010: u32 => NodeId;
    /// Gives that many bytes.
    Bytes = 60_011: u32 => ByteBuf;
    /// Admits the caller.
    Join = 60_013: u32 => u32;
    /// Tells whether the caller's pool key is past its grace.
    Stale = 60_012: u32 => bool;
}

/// The handler.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Calls that reached it.
    pub(crate) calls: AtomicUsize,
    /// Calls in progress in [`Hang`], [`Wait`] and [`Forever`].
    pub(crate) waiting: AtomicUsize,
    /// Told when one of them was cancelled.
    pub(crate) cancelled: Notify,
    /// Lets [`Wait`] go on.
    pub(crate) go: Notify,
    /// How busy it says that it is, with the answers to [`Echo`] and [`Refuse`].
    pub(crate) load: Mutex<Option<Load>>,
    /// Everybody else is admitted.
    pub(crate) strangers: Mutex<HashSet<NodeId>>,
}

impl Answers {
    async fn answer(&self, call: IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match call.method {
            Echo::ID => reply.item::<Echo>(&call.request::<Echo>()?).await,
            Count::ID => {
                for i in 0..call.request::<Count>()? {
                    reply.item::<Count>(&i).await?;
                }
                Ok(())
            }
            Hang::ID => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                call.cancelled.cancelled().await;
                self.cancelled.notify_one();
                reply.item::<Hang>(&7).await
            }
            Panic::ID => panic!("a bug in a handler"),
            Refuse::ID => Err(RpcError::new(ErrorCode::Denied, "you may not")),
            Forever::ID => loop {
                let sent = reply.item::<Forever>(&ByteBuf::from(vec![0; 1 << 20])).await;
                if sent.is_err() {
                    self.cancelled.notify_one();
                    return sent;
                }
            },
            Bytes::ID => {
                let len = call.request::<Bytes>()? as usize;
                reply.item::<Bytes>(&ByteBuf::from(vec![0; len])).await
            }
            Wait::ID => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.go.notified().await;
                reply.item::<Wait>(&call.request::<Wait>()?).await
            }
            Deaf::ID => {
                reply.item::<Deaf>(&1).await?;
                std::future::pending().await
            }
            Whoami::ID => reply.item::<Whoami>(&call.peer).await,
            Join::ID => {
                self.strangers.lock().unwrap().remove(&call.peer);
                reply.item::<Join>(&1).await
            }
            Stale::ID => reply.item::<Stale>(&call.stale_key).await,
            method => Err(RpcError::new(ErrorCode::Unsupported, format!("no method {method}"))),
        }
    }
}

impl Handler for Answers {
    fn admitted(&self, node: &NodeId) -> bool {
        !self.strangers.lock().unwrap().contains(node)
    }

    fn load(&self, method: u16) -> Option<Load> {
        self.load.lock().unwrap().filter(|_| [Echo::ID, Refuse::ID].contains(&method))
    }

    fn call<'a>(&'a self, call: IncomingCall, reply: ReplySink) -> BoxFuture<'a, Result<(), RpcError>> {
        self.answer(call, reply).boxed()
    }
}

/// A pool's id and key.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) id: PoolId,
    pub(crate) key: PoolKey,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { id: PoolId([1; 32]), key: PoolKey::generate().unwrap() }
    }

    /// An endpoint with a fresh identity on a free port.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint_with(self.key.clone().into())
    }

    /// The same with more keys than this one.
    pub(crate) fn endpoint_with(&self, pool_keys: Keyring) -> Endpoint {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let key = SecretKey::generate().unwrap();
        Endpoint::bind(EndpointConfig { bind, key, pool: self.id, pool_keys }).unwrap()
    }

    /// A running server.
    pub(crate) fn server(&self) -> Server {
        self.server_with(self.key.clone().into())
    }

    /// The same with more keys than this one.
    pub(crate) fn server_with(&self, keys: Keyring) -> Server {
        let (endpoint, answers, stop) =
            (self.endpoint_with(keys), Arc::new(Answers::default()), CancellationToken::new());
        let task = tokio::spawn({
            let (endpoint, handler, stop) = (endpoint.clone(), Arc::clone(&answers), stop.clone());
            async move { endpoint.serve(handler, stop).await }
        });
        Server { id: endpoint.id(), addr: endpoint.local_addr(), answers, stop, task }
    }
}

/// A server and what a test needs of it.
pub(crate) struct Server {
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
    pub(crate) answers: Arc<Answers>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// An endpoint whose identity this server does not admit.
    pub(crate) fn stranger(&self, pool: &Pool) -> Endpoint {
        let endpoint = pool.endpoint();
        self.answers.strangers.lock().unwrap().insert(endpoint.id());
        endpoint
    }

    /// Waits until so many calls are in progress.
    pub(crate) async fn waiting(&self, calls: usize) {
        let reached = async {
            while self.answers.waiting.load(Ordering::SeqCst) < calls {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, reached).await.expect("the calls reach the handler");
    }
}
