//! A name server on loopback, over UDP and TCP, that answers what a test tells it to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SOA, SRV},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// In lower case, with its final dot.
    pub(super) name: String,
    pub(super) kind: RecordType,
    pub(super) is_tcp: bool,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Over UDP, an answer of more than 1,232 bytes is truncated.
    Records {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// No records, with the SOA record of the zone, or without.
    Negative {
        code: ResponseCode,
        soa_ttl: Option<u32>,
    },
    Code(ResponseCode),
    /// These bytes behind the id.
    Garbage(Vec<u8>),
    /// A good answer to another question.
    WrongId,
    /// A good answer to this question, truncated over TCP as well.
    Truncated,
    Nothing,
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// Ends with the runtime of its test.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    handler: Arc<Mutex<Arc<Handler>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) async fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The port may be in use for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let server = Self { address, handler: Arc::new(Mutex::new(Arc::new(handler))), asked: Arc::default() };
        tokio::spawn(server.clone().serve_udp(udp));
        tokio::spawn(server.clone().serve_tcp(tcp));
        server
    }

    /// Answers with these addresses to every question of their families.
    pub(super) async fn of_addresses(addresses: &[&str], ttl: u32) -> Self {
        Self::start(addresses_of(addresses, ttl)).await
    }

    pub(super) fn set(&self, handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.handler.lock().unwrap() = Arc::new(handler);
    }

    /// Forgets the questions, and returns each of them once: hickory repeats a query that is answered late.
    pub(super) fn take_asked(&self) -> Vec<Asked> {
        let mut once = Vec::new();
        for asked in std::mem::take(&mut *self.asked.lock().unwrap()) {
            if !once.contains(&asked) {
                once.push(asked);
            }
        }
        once
    }

    /// The number of questions, repeated ones too.
    pub(super) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn answer(&self, request: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
        let request = Message::from_vec(request).ok()?;
        let query = request.queries.first()?.clone();
        let asked = Asked { name: query.name().to_lowercase().to_ascii(), kind: query.query_type(), is_tcp };
        self.asked.lock().unwrap().push(asked.clone());
        let handler = Arc::clone(&self.handler.lock().unwrap());
        let id = request.metadata.id;
        let mut message = Message::response(id, OpCode::Query);
        message.metadata.recursion_available = true;
        message.add_query(query.clone());
        match handler(&asked) {
            Reply::Nothing => return None,
            Reply::Garbage(bytes) => return Some([&id.to_be_bytes(), &bytes[..]].concat()),
            Reply::Code(code) => message.metadata.response_code = code,
            Reply::Truncated => message.metadata.truncation = true,
            Reply::WrongId => {
                message.metadata.id = id.wrapping_add(1);
                message.add_answer(address(&asked.name, 0, "10.6.6.6"));
            }
            Reply::Negative { code, soa_ttl } => {
                message.metadata.response_code = code;
                if let Some(ttl) = soa_ttl {
                    let zone = Name::from_ascii("test.").unwrap();
                    let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, ttl);
                    message.add_authority(Record::from_rdata(zone, ttl, RData::SOA(soa)));
                }
            }
            Reply::Records { answers, additionals } => {
                message.add_answers(answers);
                message.add_additionals(additionals);
            }
        }
        let bytes = message.to_vec().unwrap();
        if !is_tcp && bytes.len() > 1_232 {
            message.metadata.truncation = true;
            message.answers.clear();
            message.additionals.clear();
            return Some(message.to_vec().unwrap());
        }
        Some(bytes)
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let mut buffer = [0; 4_096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            if let Some(answer) = self.answer(&buffer[..len], false) {
                drop(socket.send_to(&answer, from).await);
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move {
                while let Ok(len) = stream.read_u16().await {
                    let mut request = vec![0; usize::from(len)];
                    if stream.read_exact(&mut request).await.is_err() {
                        return;
                    }
                    if let Some(answer) = server.answer(&request, true) {
                        let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
                        drop(stream.write_all(&[&len, &answer[..]].concat()).await);
                    }
                }
            });
        }
    }
}

/// Answers with the addresses of the family that is asked for.
pub(super) fn addresses_of(addresses: &[&str], ttl: u32) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    move |asked| {
        let of_family = addresses
            .iter()
            .filter(|address| asked.kind == if address.is_ipv4() { RecordType::A } else { RecordType::AAAA });
        let answers: Vec<_> = of_family.map(|ip| address(&asked.name, ttl, &ip.to_string())).collect();
        if answers.is_empty() { no_data(ttl) } else { records(answers) }
    }
}

pub(super) fn records(answers: Vec<Record>) -> Reply {
    Reply::Records { answers, additionals: Vec::new() }
}

pub(super) fn no_data(ttl: u32) -> Reply {
    Reply::Negative { code: ResponseCode::NoError, soa_ttl: Some(ttl) }
}

pub(super) fn no_such_name(ttl: u32) -> Reply {
    Reply::Negative { code: ResponseCode::NXDomain, soa_ttl: Some(ttl) }
}

pub(super) fn address(name: &str, ttl: u32, ip: &str) -> Record {
    let data = match ip.parse().unwrap() {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data)
}

pub(super) fn cname(name: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, RData::CNAME(CNAME(Name::from_ascii(target).unwrap())))
}

pub(super) fn srv(name: &str, ttl: u32, [priority, weight, port]: [u16; 3], target: &str) -> Record {
    // From labels, since the target may be no host name.
    let labels = target.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    let srv = SRV::new(priority, weight, port, Name::from_labels(labels).unwrap());
    Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, RData::SRV(srv))
}
