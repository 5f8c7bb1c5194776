// A gateway and a sidecar in Go, wired as the two proxies of Krypton's runtime are: httputil.ReverseProxy on the default
// transport, every read flushed at once.
//
// Why it is fair: it does less for a call than the original, which also copies the Agent out of a cache, records a
// duration, and writes to the Kubernetes API after the call. All of that is left out here. The names of Services are
// not asked of a DNS server: the dialer goes to the endpoints in turn, as kube-proxy would. One sidecar process serves
// for all pods. Headers are as there: the gateway adds none, the sidecar adds X-Forwarded-For.
//
// What is not like the others, since it is not so in the original: pools are those of Go's default transport, two idle
// connections to a host. The sidecar makes most of its connections anew when more calls run at a time. -pool changes that.
//
//	gateway -listen ADDR -routes FILE -endpoints ADDR,ADDR,...   [-pool N] [-h2c]
//	gateway -sidecar ADDR=ADDR,ADDR=ADDR,...                     (listens on the left, forwards to the right)
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	prefix = "/v1/agents/"
	// A whole call, streams included; the original has it as a constant too.
	callTimeout = 5 * time.Minute
)

// routes is the cache of Agents: namespace/name to the host of its Service.
type routes struct {
	lock  sync.RWMutex
	hosts map[string]string
}

func (r *routes) host(agent string) (string, bool) {
	r.lock.RLock()
	defer r.lock.RUnlock()
	host, found := r.hosts[agent]
	return host, found
}

func main() {
	var (
		listen    = flag.String("listen", "", "where the gateway listens")
		table     = flag.String("routes", "", "file with an agent (namespace/name) a line")
		endpoints = flag.String("endpoints", "", "addresses that each agent has")
		sidecars  = flag.String("sidecar", "", "pairs of where to listen and where to forward to")
		pool      = flag.Int("pool", 0, "idle connections to keep (0: as Go does, 2 a host and 100 in all)")
		h2c       = flag.Bool("h2c", false, "speak HTTP/2 without TLS as well")
		slots     = flag.Int("slots", 1<<20, "calls that a sidecar lets pass at a time")
		version   = flag.Bool("version", false, "print the version of Go")
	)
	flag.Parse()
	switch {
	case *version:
		fmt.Println(runtime.Version())
	case *sidecars != "":
		serveSidecars(strings.Split(*sidecars, ","), *slots, transport(*pool))
	default:
		serveGateway(*listen, *table, strings.Split(*endpoints, ","), transport(*pool), *h2c)
	}
}

// transport is Go's default one, with larger pools where that is asked for.
func transport(pool int) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// The environment of the bench is none of its business.
	transport.Proxy = nil
	if pool > 0 {
		transport.MaxIdleConns = pool
		transport.MaxIdleConnsPerHost = pool
	}
	return transport
}

func serveGateway(listen, table string, endpoints []string, transport *http.Transport, h2c bool) {
	routes, err := read(table)
	if err != nil {
		log.Fatal(err)
	}
	// A Service spreads connections, not calls.
	var next atomic.Uint64
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, endpoints[next.Add(1)%uint64(len(endpoints))])
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent, rest, ok := split(r.URL.Path)
		if !ok {
			http.Error(w, `{"error":"expected /v1/agents/{namespace}/{name}[/...]"}`, http.StatusBadRequest)
			return
		}
		host, found := routes.host(agent)
		if !found {
			http.Error(w, `{"error":"agent not found"}`, http.StatusNotFound)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		target := &url.URL{Scheme: "http", Host: host}
		proxy := &httputil.ReverseProxy{
			Transport:     transport,
			FlushInterval: -1,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.Out.URL.Scheme = target.Scheme
				p.Out.URL.Host = target.Host
				p.Out.URL.Path = rest
				p.Out.URL.RawPath = ""
				p.Out.Host = target.Host
			},
		}
		proxy.ServeHTTP(w, r.WithContext(ctx))
	})
	serve(listen, handler, h2c, "gateway")
	select {}
}

func serveSidecars(pairs []string, slots int, transport *http.Transport) {
	for _, pair := range pairs {
		listen, to, ok := strings.Cut(pair, "=")
		if !ok {
			log.Fatalf("-sidecar: %q is not ADDR=ADDR", pair)
		}
		free := make(chan struct{}, slots)
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
		proxy.Transport = transport
		proxy.FlushInterval = -1
		direct := proxy.Director
		proxy.Director = func(r *http.Request) {
			direct(r)
			r.Host = to
		}
		serve(listen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case free <- struct{}{}:
				defer func() { <-free }()
			default:
				w.Header().Set("Retry-After", "1")
				http.Error(w, "concurrency limit reached", http.StatusServiceUnavailable)
				return
			}
			proxy.ServeHTTP(w, r)
		}), false, "sidecar")
	}
	select {}
}

// serve listens, says where, and serves on.
func serve(address string, handler http.Handler, h2c bool, name string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening %s=%s\n", name, listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	if h2c {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	go func() { log.Fatal(server.Serve(listener)) }()
}

// split takes a path apart into namespace/name and what follows.
func split(path string) (agent, rest string, ok bool) {
	path, ok = strings.CutPrefix(path, prefix)
	if !ok {
		return "", "", false
	}
	namespace, path, ok := strings.Cut(path, "/")
	if !ok || namespace == "" {
		return "", "", false
	}
	name, rest, _ := strings.Cut(path, "/")
	if name == "" {
		return "", "", false
	}
	return namespace + "/" + name, "/" + rest, true
}

func read(path string) (*routes, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	routes := &routes{hosts: make(map[string]string)}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		namespace, name, ok := strings.Cut(lines.Text(), "/")
		if !ok {
			return nil, fmt.Errorf("%s: %q is not namespace/name", path, lines.Text())
		}
		routes.hosts[lines.Text()] = name + "." + namespace + ".svc:8080"
	}
	return routes, lines.Err()
}
