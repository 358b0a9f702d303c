package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"leveret/appliance/control/api"
	"leveret/extensions/tunnel/tunnelapi"
)

// tunnelWords are what `tunnel add`, `change` and `show` are given.
type tunnelWords struct {
	name string
	mode string         // as shown; "" = not given
	spec map[string]any // the keys of the configuration
}

// tunnelModes are the words for modes, and what `show` calls them.
var tunnelModes = map[string]string{
	"ip6ip6": "ipv6/ipv6", "ipv6/ipv6": "ipv6/ipv6", "ip6gre": "gre/ipv6", "gre/ipv6": "gre/ipv6",
}

// words is the grammar of "ip -6 tunnel", with "ecn" (RFC 6040 4.1) and, for flow labels, "hash" (RFC 6438).
func (t *tunnelWords) words() words {
	t.spec = map[string]any{}
	put := func(key string) func(string) error {
		return func(v string) error { t.spec[key] = v; return nil }
	}
	end := func(key string) func(string) error {
		return func(v string) error {
			var a netip.Addr
			err := addr(&a)(v)
			t.spec[key] = v
			return err
		}
	}
	count := func(key, what string, base int, least, most int64, also ...string) func(string) error {
		return func(v string) error {
			if t.spec[key] = v; slices.Contains(also, v) {
				return nil
			}
			digits := v
			if base == 16 {
				digits = strings.TrimPrefix(strings.ToLower(v), "0x")
			}
			n, err := strconv.ParseInt(digits, base, 64)
			if err != nil || n < least || n > most {
				return usagef("argument %q is wrong: invalid %s", v, what)
			}
			t.spec[key] = n
			return nil
		}
	}
	hops, class := count("hop_limit", "TTL", 0, 1, 255), count("tclass", "TClass", 16, 0, 255, "inherit")
	label := count("flowlabel", "Flowlabel", 16, 0, 0xfffff, "inherit", "hash")
	yes := func(key string) func() { return func() { t.spec[key] = true } }
	return words{
		values: map[string]func(string) error{
			"name": text(&t.name),
			"mode": func(v string) error {
				if t.mode = tunnelModes[v]; t.mode == "" {
					return usagef("Unknown tunnel mode %q: there are ip6ip6 and ip6gre", v)
				}
				return nil
			},
			"remote": end("remote"), "local": end("local"), "dev": put("dev"), "encaplimit": count("encap_limit", "ELIM", 0, 0, 255, "none"),
			"hoplimit": hops, "ttl": hops, "hlim": hops, "tclass": class, "tc": class, "tos": class, "dsfield": class, "flowlabel": label, "fl": label,
			"dscp": func(v string) error {
				t.spec["dscp"] = "inherit"
				if v != "inherit" {
					return usagef("not inherit")
				}
				return nil
			},
			"ecn": func(v string) error {
				var s string
				t.spec["ecn"] = v
				return oneOf(&s, "ecn mode", "normal", "compatibility")(v)
			},
			"key": put("key"), "ikey": put("ikey"), "okey": put("okey"),
		},
		flags: map[string]func(){
			"csum": yes("csum"), "icsum": yes("icsum"), "ocsum": yes("ocsum"), "seq": yes("seq"), "iseq": yes("iseq"), "oseq": yes("oseq"),
		},
		bare: text(&t.name),
	}
}

func (c *cli) tunnelCommand() *cobra.Command {
	all, none := new(tunnelWords).words(), words{}
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error { return c.tunnelEdit(ctx, op, args) }
	}
	const row = ` NAME [mode {ip6ip6 | ip6gre}] remote ADDR local ADDR [dev LINK] [encaplimit {N | none}]
    [hoplimit N] [tclass {N | inherit}] [flowlabel {N | inherit | hash}] [dscp inherit]
    [ecn {normal | compatibility}] [[i|o]key KEY] [[i|o]csum] [[i|o]seq]`
	return c.object(&cobra.Command{
		Use:   "tunnel",
		Short: "Links over the way between two nodes: IPv6 in IPv6, and in GRE",
		Long: `A tunnel is a link: it has addresses, routes, captures and counters as every other one. One that is made by
a command lasts until the configuration is applied again; the others are items of "tunnels" there.`,
		Example: `  leveret tunnel
  leveret tunnel add t6-lab mode ip6ip6 local 2001:db8:ffff:1::2 remote 2001:db8:9::9
  leveret addr add 2001:db8:77::1/64 dev t6-lab
  leveret tunnel change t6-lab hoplimit 16
  leveret tunnel del t6-lab`,
	}, all,
		c.verb("add"+row, "Add a tunnel", `  leveret tunnel add t6-lab mode ip6ip6 local 2001:db8:ffff:1::2 remote 2001:db8:9::9 encaplimit 2
  leveret tunnel add gre1 mode ip6gre local 2001:db8:ffff:1::2 remote 2001:db8:9::9 key 5 csum`, all, edit("add")),
		c.verb("change"+row, "Change a tunnel; what is not named stays", `  leveret tunnel change t6-lab remote 2001:db8:9::10`, all, edit("change"), "chg"),
		c.verb("del NAME", "Delete a tunnel", `  leveret tunnel del t6-lab`, none, edit("del"), "delete"),
		c.verb("show [NAME] [mode MODE] [remote ADDR] [local ADDR] [dev LINK]", "List tunnels",
			`  leveret tunnel show mode ip6gre
  leveret -s tunnel show t6-lab
  leveret -j tunnel | jq -r '.[].remote'`, all, c.tunnelShow, "list", "lst"),
	)
}

func (c *cli) tunnelEdit(ctx context.Context, op string, args []string) error {
	var t tunnelWords
	if err := t.words().parse(args); err != nil {
		return err
	}
	r := api.LinkMake{Op: op, Dev: t.name, Kind: map[string]string{"ipv6/ipv6": "ip6ip6", "gre/ipv6": "ip6gre"}[t.mode]}
	switch {
	case t.name == "":
		return usagef("Tunnel interface name not specified")
	case op == "del":
		if len(t.spec) > 0 || t.mode != "" {
			return usagef("a tunnel is deleted by its name alone.")
		}
		return c.client().Post(ctx, "/v1/link/make", r, nil)
	case op == "add" && t.mode == "":
		r.Kind = "ip6ip6"
	}
	var err error
	if r.Spec, err = json.Marshal(t.spec); err != nil {
		return err
	}
	return c.client().Post(ctx, "/v1/link/make", r, nil)
}

func (c *cli) tunnelShow(ctx context.Context, args []string) error {
	var t tunnelWords
	if err := t.words().parse(args); err != nil {
		return err
	}
	for key := range t.spec {
		if key != "remote" && key != "local" && key != "dev" {
			return usagef("tunnels are selected by name, mode, remote, local and dev.")
		}
	}
	var all, list []tunnelapi.Tunnel
	if err := c.client().Get(ctx, "/v1/tunnel", tunnelapi.Filter{Dev: t.name}, &all); err != nil {
		return err
	}
	same := func(key, is string) bool {
		want, ok := t.spec[key].(string)
		if a, err := netip.ParseAddr(want); err == nil {
			want = a.String()
		}
		return !ok || want == is
	}
	for _, x := range all {
		if (t.mode == "" || t.mode == x.Mode) && same("remote", x.Remote) && same("local", x.Local) && same("dev", x.Link) {
			list = append(list, x)
		}
	}
	stats := map[string]*api.Stats64{}
	if c.stats > 0 && !c.json {
		var links []api.Link
		if err := c.client().Get(ctx, "/v1/link", nil, &links); err != nil {
			return err
		}
		for _, l := range links {
			stats[l.IfName] = l.Stats64
		}
	}
	return each(c, list, func(x tunnelapi.Tunnel) error {
		lines := tunnelText(x)
		if s := stats[x.IfName]; s != nil {
			lines = append(append(lines, statsText("RX", s.RX)...), statsText("TX", s.TX)...)
		}
		return c.printRecord(lines...)
	})
}

// tunnelText renders a tunnel in iproute2's layout.
func tunnelText(t tunnelapi.Tunnel) []string {
	pick := func(inherit tunnelapi.Flag, v string) string {
		if inherit {
			return "inherit"
		}
		return v
	}
	limit := "none"
	if t.EncapLimit != nil {
		limit = strconv.Itoa(*t.EncapLimit)
	}
	key := func(word string, k *uint32) string {
		if k == nil {
			return ""
		}
		return pair(word, *k)
	}
	lines := []string{when(t.Deleted, "Deleted ") + line(t.IfName+":", t.Mode, pair("remote", t.Remote), pair("local", t.Local), pair("dev", t.Link),
		pair("encaplimit", limit), pair("hoplimit", t.HopLimit), pair("tclass", pick(t.InheritClass, t.TClass)),
		pair("flowlabel", pick(t.InheritLabel, t.FlowLabel)), "(flowinfo "+t.FlowInfo+")", when(bool(t.CopyDSCP), "dscp inherit"),
		when(bool(t.Compatibility), "ecn compatibility"), key("key", t.Key), key("ikey", t.IKey), key("okey", t.OKey))}
	for _, w := range t.Flags {
		lines = append(lines, "  "+w.Text())
	}
	return lines
}
