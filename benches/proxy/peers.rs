//! nginx and HAProxy as they are set up for the same promise: keep-alive on both sides, two workers, another backend
//! upon an error, a 502, a 503 or a second without an answer, no access log.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program of the system; servers lie in places that are not in everybody's `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

pub(crate) fn nginx(folder: &Path, port: u16, backends: &[u16], least: bool) -> Command {
    let strategy = if least { "least_conn;" } else { "" };
    let servers: String = backends.iter().map(|port| format!("server 127.0.0.1:{port}; ")).collect();
    let own = folder.display();
    let config = format!(
        "daemon off;
worker_processes 2;
worker_rlimit_nofile 16384;
pid {own}/nginx.pid;
error_log {own}/nginx.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {own}/nginx-body;
    proxy_temp_path {own}/nginx-proxy;
    fastcgi_temp_path {own}/nginx-fastcgi;
    uwsgi_temp_path {own}/nginx-uwsgi;
    scgi_temp_path {own}/nginx-scgi;
    keepalive_requests 100000000;
    upstream fleet {{ {strategy} {servers} keepalive 64; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://fleet;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_connect_timeout 1s;
            proxy_read_timeout 1s;
            proxy_next_upstream error timeout http_502 http_503;
        }}
    }}
}}
"
    );
    let file = write(folder, "nginx.conf", &config);
    let mut command = Command::new(find("nginx").unwrap_or_default());
    command.arg("-e").arg(folder.join("nginx.log")).arg("-c").arg(file).stderr(Stdio::null());
    command
}

pub(crate) fn haproxy(folder: &Path, port: u16, backends: &[u16], least: bool) -> Command {
    let strategy = if least { "leastconn" } else { "roundrobin" };
    let server = |(index, port)| format!("    server b{} 127.0.0.1:{port}\n", index + 1);
    let servers: String = backends.iter().enumerate().map(server).collect();
    let config = format!(
        "global
    nbthread 2
    maxconn 8000
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 1s
    retries 3
    retry-on all-retryable-errors
    option redispatch 1
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    default_backend fleet
backend fleet
    balance {strategy}
{servers}"
    );
    let file = write(folder, "haproxy.cfg", &config);
    let mut command = Command::new(find("haproxy").unwrap_or_default());
    command.arg("-db").arg("-f").arg(file).stderr(Stdio::null());
    command
}

fn write(folder: &Path, name: &str, config: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, config).expect("a configuration can be written");
    file
}
