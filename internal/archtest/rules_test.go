package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the path that stands before our own packages.
const module = "tamizdat"

// floor is where a package lives and why nothing above it may be imported
// there. Packages below one of these share its entry, unless they have their
// own.
type floor struct {
	level int
	why   string
}

// floors is the house from bottom to top. A package may import packages of
// lower levels, and its own sub-packages.
var floors = map[string]floor{
	"internal": {0, "helpers know nothing of what they help with"},

	"bundle/record":  {10, "a record is bytes and a hash; even channel builds on it"},
	"bundle/channel": {11, "who may say what is new must not depend on what is said"},
	"bundle":         {12, "the format is bytes to bytes: no network, no disk"},
	"bundle/car":     {13, "a CAR holds an edition's blocks; the format does not know how it travels"},

	"transport":               {20, "the seams have no implementation, so that everything may import them"},
	"transport/gateway":       {21, "what relays and gateways share knows neither"},
	"transport/witness":       {21, "a relay is one, and so are servers that know no other path"},
	"transport/transporttest": {21, "one conformance suite judges all transports, so it depends on none"},
	"transport/relay":         {22, "one path must work, and be removable, without the others"},
	"transport/ipfs":          {22, "one path must work, and be removable, without the others"},
	"transport/dns":           {22, "one path must work, and be removable, without the others"},
	"transport/file":          {22, "one path must work, and be removable, without the others"},
	"transport/pkarr":         {22, "one path must work, and be removable, without the others"},
	"transport/static":        {22, "one path must work, and be removable, without the others"},

	"internal/censor": {25, "a censor stands before the network and knows no path, so that it can stand before all of them"},

	"mirror/library":   {30, "the reader's store holds what it is given, from wherever it came"},
	"mirror/publisher": {30, "a publisher's keys and texts never share a program part with readers or relays"},
	"mirror/relay":     {30, "a relay can't read what it carries, so it has no part that could"},
	"mirror/sync":      {31, "the engine decides what to fetch; who shows it is not its business"},
	"mirror/paths":     {31, "it turns places into paths and knows nothing of who fetches over them"},
	"mirror/web":       {32, "the page shows; commands decide where and when"},

	"mirror/reader":      {33, "the reader's program without its command line; commands and the demo put a network under it"},
	"mirror/demo":        {40, "it wires everything, so nothing may depend on it"},
	"internal/censorlab": {40, "it wires everything, so nothing may depend on it"},
	"internal/netreal":   {40, "the real network is chosen where a program is put together, or tests could not replace it"},
	"cmd":                {41, "commands are wiring"},
}

// floorOf finds the entry of a package of ours, given without the module path.
func floorOf(pkg string) (owner string, f floor, ok bool) {
	for p := pkg; p != "."; p = path.Dir(p) {
		if f, ok := floors[p]; ok {
			// Only whole entries: a new folder in mirror, transport or bundle
			// must say where it lives; inside internal and cmd it is clear.
			nested := p == "internal" || p == "cmd" || f.level >= 22
			if p != pkg && !nested {
				return "", floor{}, false
			}
			return p, f, true
		}
	}
	return "", floor{}, false
}

// checkImport returns what is wrong with from importing to (both without the
// module path), or "".
func checkImport(from, to string) string {
	fo, ff, ok := floorOf(from)
	if !ok {
		return fmt.Sprintf("%s has no floor: add it to floors in internal/archtest", from)
	}
	to2, tf, ok := floorOf(to)
	if !ok {
		return fmt.Sprintf("%s imports %s, which has no floor: add it to floors in internal/archtest", from, to)
	}
	below := strings.HasPrefix(to, from+"/") && fo == to2
	siblingHelper := fo == "internal" && to2 == "internal" // helpers may build on helpers
	if tf.level < ff.level || below || siblingHelper {
		return ""
	}
	return fmt.Sprintf("%s (floor %d) imports %s (floor %d): %s", from, ff.level, to, tf.level, ff.why)
}

// only lists libraries that stay in one part of the house.
var only = map[string]struct {
	in  string
	why string
}{
	"github.com/gen2brain/webp": {"mirror/publisher", "without the nodynamic tag it looks for a system library; readers never encode"},
}

func checkLibrary(from, lib string) string {
	o, ok := only[lib]
	if !ok || from == o.in || strings.HasPrefix(from, o.in+"/") {
		return ""
	}
	return fmt.Sprintf("%s imports %s, which belongs in %s: %s", from, lib, o.in, o.why)
}

// socketFree says which packages may open sockets themselves: the Network seam's
// implementations.
// and what starts other people's servers for tests.
var socketFree = []string{"internal/netreal", "internal/simnet", "internal/testservers"}

// forbidden names, by import path, what opens a socket or resolves a name
// behind the Network's back. A trailing * stands for any ending.
var forbidden = map[string][]string{
	"net": {
		"Dial*", "Listen", "ListenConfig", "ListenPacket", "ListenTCP", "ListenUDP", "ListenIP",
		"ListenUnix*", "ListenMulticastUDP", "FileConn", "FileListener", "FilePacketConn",
		"Resolver", "DefaultResolver", "Lookup*", "ResolveIPAddr", "ResolveTCPAddr", "ResolveUDPAddr",
	},
	"net/http": {
		"DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm",
		"ListenAndServe", "ListenAndServeTLS", "ProxyFromEnvironment",
	},
	"crypto/tls":                 {"Dial", "DialWithDialer", "Dialer", "Listen"},
	"github.com/quic-go/quic-go": {"DialAddr*", "ListenAddr*"},
	"github.com/miekg/dns":       {"Exchange*", "Dial*", "ListenAndServe*"},
	"log/syslog":                 {"Dial", "New*"},
}

// checkFile returns what a parsed file of package pkg does that only the
// Network may.
func checkFile(fset *token.FileSet, f *ast.File, pkg string) []string {
	if slices.ContainsFunc(socketFree, func(p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") }) {
		return nil
	}
	names := make(map[string]string) // local name → import path
	for _, im := range f.Imports {
		p, err := strconv.Unquote(im.Path.Value)
		if err != nil || forbidden[p] == nil {
			continue
		}
		local := path.Base(p)
		if p == "github.com/quic-go/quic-go" {
			local = "quic"
		}
		if im.Name != nil {
			local = im.Name.Name
		}
		names[local] = p
	}
	var out []string
	complain := func(n ast.Node, what string) {
		pos := fset.Position(n.Pos())
		out = append(out, fmt.Sprintf("%s:%d: %s: sockets and names go through transport.Network, or a censor, a proxy or a simulated net would not see them", pos.Filename, pos.Line, what))
	}
	for local, p := range names {
		if local == "." {
			complain(f, "dot import of "+p)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			id, ok := n.X.(*ast.Ident)
			if !ok || id.Obj != nil { // Obj: a local variable of that name
				return true
			}
			if p, ok := names[id.Name]; ok && matches(forbidden[p], n.Sel.Name) {
				complain(n, p+"."+n.Sel.Name)
			}
		case *ast.CompositeLit:
			// http.Client without a Transport, and http.Transport without a
			// dialler, fall back to package net.
			sel, ok := n.Type.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			id, ok := sel.X.(*ast.Ident)
			if !ok || names[id.Name] != "net/http" {
				return true
			}
			if sel.Sel.Name == "Client" && !sets(n, "Transport") {
				complain(n, "http.Client without a Transport")
			}
			if sel.Sel.Name == "Transport" && !sets(n, "DialContext") {
				complain(n, "http.Transport without DialContext")
			}
		}
		return true
	})
	return out
}

// checkWithout returns where a parsed file takes counter-measures away, which only
// tests may: it makes a value of a type named Without, or sets a field of one. Handing
// one on is allowed.
func checkWithout(fset *token.FileSet, f *ast.File) []string {
	var out []string
	complain := func(n ast.Node) {
		pos := fset.Position(n.Pos())
		out = append(out, fmt.Sprintf("%s:%d: only tests take counter-measures away", pos.Filename, pos.Line))
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if named(n.Type) == "Without" {
				complain(n)
			}
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				for sel, ok := to.(*ast.SelectorExpr); ok; sel, ok = sel.X.(*ast.SelectorExpr) {
					if sel.Sel.Name == "Without" {
						complain(n)
						break
					}
				}
			}
		}
		return true
	})
	return out
}

// named is the name of a type, without its package.
func named(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.Ident:
		return t.Name
	case *ast.SelectorExpr:
		return t.Sel.Name
	}
	return ""
}

func sets(lit *ast.CompositeLit, field string) bool {
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		if k, ok := kv.Key.(*ast.Ident); ok && k.Name == field {
			return true
		}
	}
	return false
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if start, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, start)
		}
		return p == name
	})
}
