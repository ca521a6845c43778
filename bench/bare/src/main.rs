//! The bare runtime behind hyper: every request is one run on the same input, and nothing else is done for it. What a server without
//! plugins, batches, limits and metrics reaches under the same load; `bench/run bare` sets Sandmill against it.
#![allow(clippy::print_stdout, reason = "it prints its address")]

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Parser;
use crossbeam_channel::{Receiver, Sender};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ort::environment::Environment;
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;
use tokio::net::TcpListener;

/// What is served, on 127.0.0.1 and a port that is told.
#[derive(Debug, Parser)]
struct Options {
    /// The ONNX file.
    model: PathBuf,
    /// Each of its inputs in order, as `float32:1,64`: full of ones.
    #[arg(long, required = true)]
    input: Vec<Input>,
    /// Runs at once, each on a session and a thread of its own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The ONNX Runtime library.
    #[arg(long)]
    library: PathBuf,
}

#[derive(Clone, Debug)]
struct Input {
    dtype: String,
    shape: Vec<usize>,
}

impl FromStr for Input {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (dtype, shape) = text.split_once(':').context("it is not of the form float32:1,64")?;
        let shape = shape.split(',').map(str::parse).collect::<Result<_, _>>().context("its shape is no list of numbers")?;
        Ok(Self { dtype: dtype.to_owned(), shape })
    }
}

impl Input {
    fn ones(&self) -> Result<SessionInputValue<'static>> {
        let (shape, count) = (self.shape.clone(), self.shape.iter().product());
        Ok(match self.dtype.as_str() {
            "float32" => Tensor::from_array((shape, vec![1_f32; count]))?.into(),
            "int32" => Tensor::from_array((shape, vec![1_i32; count]))?.into(),
            "int64" => Tensor::from_array((shape, vec![1_i64; count]))?.into(),
            other => bail!("`{other}` is none of float32, int32, int64"),
        })
    }
}

/// A session with what it is run on.
struct Place {
    session: Session,
    inputs: Vec<SessionInputValue<'static>>,
}

impl Place {
    fn new(environment: &Environment, options: &Options) -> Result<Self> {
        let session = configure(environment)?.commit_from_file(&options.model)?;
        let inputs = options.input.iter().map(Input::ones).collect::<Result<_>>()?;
        Ok(Self { session, inputs })
    }

    /// The first number of the last output, as it lies in memory.
    fn run(&mut self) -> Result<Bytes> {
        let outputs = self.session.run(self.inputs.as_slice())?;
        let (_, last) = outputs.iter().last().context("the model has no output")?;
        let (_, numbers) = last.try_extract_tensor::<f32>()?;
        let first = numbers.first().context("its output is empty")?;
        Ok(Bytes::copy_from_slice(&first.to_le_bytes()))
    }
}

/// As Sandmill's sessions are made; its memory may be planned, as it has one shape.
fn configure(environment: &Environment) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(environment)?.with_intra_threads(1)?.with_inter_threads(1)?;
    Ok(builder.with_intra_op_spinning(false)?.with_inter_op_spinning(false)?.with_memory_pattern(true)?)
}

/// There are as many as threads: none ever waits for one.
type Places = (Sender<Place>, Receiver<Place>);

async fn answer(request: Request<Incoming>, places: Arc<Places>) -> Result<Response<Full<Bytes>>> {
    drop(request.into_body().collect().await?);
    let mut place = places.1.recv()?;
    let ran = place.run();
    drop(places.0.send(place));
    Ok(Response::new(Full::new(ran?)))
}

fn main() -> Result<()> {
    let options = Options::parse();
    let environment = ort::init_from(&options.library)?.with_telemetry(false).build()?;
    let places = crossbeam_channel::bounded(options.threads);
    for _ in 0..options.threads {
        drop(places.0.send(Place::new(&environment, &options)?));
    }
    let places = Arc::new(places);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(options.threads).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let places = Arc::clone(&places);
            let service = service_fn(move |request| answer(request, Arc::clone(&places)));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}
