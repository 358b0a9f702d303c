package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/xfrmapi"
)

// wordsOf are for completion only: package sad parses them.
func wordsOf(list string) words {
	w := words{values: map[string]func(string) error{}}
	for _, k := range strings.Fields(list) {
		w.values[k] = func(string) error { return nil }
	}
	return w
}

func (c *cli) xfrmStateCommand() *cobra.Command {
	id := wordsOf("src dst proto spi mark")
	spec := wordsOf("src dst proto spi mode mark reqid seq enc auth auth-trunc aead replay-window replay-seq replay-oseq replay-seq-hi replay-oseq-hi " +
		"flag extra-flag sel limit encap output-mark if_id tfcpad")
	alloc, filter := wordsOf("src dst proto spi mode mark reqid seq min max"), wordsOf("src dst proto spi mode reqid flag")
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error { return c.stateEdit(ctx, op, args) }
	}
	const optional = " ID ALGO-LIST [mode MODE] [mark MARK [mask MASK]] [reqid N] [seq N] [replay-window N] [replay-seq N] [replay-oseq N] [replay-seq-hi N] " +
		"[replay-oseq-hi N] [flag FLAG...] [extra-flag FLAG...] [sel SELECTOR] [limit LIMIT]... [encap ENCAP] [output-mark MARK [mask MASK]] [tfcpad N]"
	const selected = " [ID] [mode MODE] [reqid N] [flag FLAG...]"
	// What is behind a key on a command line is no option: a key may begin with "-".
	change := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().SetInterspersed(false)
		return cmd
	}
	show := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().BoolVar(&c.showKeys, "show-keys", false, "show keys: for root, and for the user that the appliance runs as")
		return cmd
	}
	return c.verbs(show(&cobra.Command{
		Use:   "state",
		Short: "Security associations: what packets are protected and opened with",
		Long: `List and change the Security Association Database (RFC 4301 4.4.2). Grammar and listing are those of
"ip xfrm state"; keys are shown as <hidden> but with --show-keys.

  ID := [src ADDR] [dst ADDR] [proto {esp | ah}] [spi SPI]
  ALGO-LIST := aead NAME KEY ICV-BITS | enc NAME KEY [auth NAME KEY | auth-trunc NAME KEY ICV-BITS] | auth...
  KEY := 0xHEX | TEXT | key-file PATH | -
  MODE := transport | tunnel | beet
  FLAG := noecn | decap-dscp | nopmtudisc | icmp | af-unspec | align4 | esn; extra-flag: dont-encap-dscp | oseq-may-wrap
  SELECTOR := [src PREFIX] [dst PREFIX] [dev LINK] [proto PROTO [sport PORT] [dport PORT] | [type N] [code N] | [key KEY]]
  LIMIT := {time-soft | time-hard | time-use-soft | time-use-hard} SECONDS | {byte-soft | byte-hard | packet-soft | packet-hard} N
  ENCAP := espinudp SPORT DPORT OADDR

A key that stands on a command line is seen by others who list processes: "key-file PATH" takes it from a file with 0x and
digits or the octets themselves, "-" from the standard input. The salt of an algorithm that has one is behind its key.`,
		Example: `  leveret xfrm state
  leveret -s x s get dst 2001:db8::2 proto esp spi 0x1000 --show-keys
  leveret xfrm state add src 2001:db8::1 dst 2001:db8::2 proto esp spi 0x1000 mode tunnel reqid 1 flag esn replay-window 128 \
    aead 'rfc4106(gcm(aes))' key-file /etc/leveret/keys/out 128`,
	}), filter,
		change(c.verb("add"+optional, "Add a state", `  leveret xfrm state add src 2001:db8::1 dst 2001:db8::2 proto esp spi 0x1000 aead 'rfc4106(gcm(aes))' key-file out.key 128
  leveret xfrm state add src 2001:db8::1 dst 2001:db8::2 proto ah spi 0x1001 auth-trunc 'hmac(sha256)' - 128 < ah.key`, spec, edit("add"))),
		change(c.verb("update"+optional, "Change a state, which keeps its keys, counters and sequence numbers; or give one of allocspi its keys",
			`  leveret xfrm state update src 2001:db8::1 dst 2001:db8::2 proto esp spi 0x1000 aead 'rfc4106(gcm(aes))' key-file out.key 128 limit time-hard 3600`,
			spec, edit("update"))),
		c.verb("allocspi ID [mode MODE] [mark MARK [mask MASK]] [reqid N] [seq N] [min SPI max SPI]", "Add a state without keys, for 30 seconds, with an SPI that is free",
			`  leveret xfrm state allocspi src 2001:db8::2 dst 2001:db8::1 proto esp mode tunnel reqid 1 min 0x1000 max 0x1fff`, alloc, c.stateAllocSPI),
		c.verb("delete ID [mark MARK [mask MASK]]", "Delete a state", `  leveret xfrm state delete dst 2001:db8::2 proto esp spi 0x1000`, id, edit("delete")),
		c.verb("deleteall"+selected, "Delete all states, or those selected as by list", `  leveret xfrm state deleteall reqid 1`, filter, c.stateDeleteAll, "delall"),
		show(c.verb("list [nokeys]"+selected, "List states, the newest first", `  leveret xfrm state list proto esp dst 2001:db8::/64
  leveret -s xfrm state list reqid 1
  leveret -s -j xfrm state | jq '.[] | {spi, packets: .current.packets}'`, filter, c.stateList, "show", "lst")),
		show(c.verb("get ID [mark MARK [mask MASK]]", "Show one state", `  leveret xfrm state get dst 2001:db8::2 proto esp spi 0x1000`, id, c.stateGet)),
		c.verb("flush [proto {esp | ah}]", "Delete all states, or those of a protocol", `  leveret xfrm state flush proto esp`, wordsOf("proto"), c.stateFlush),
		c.verb("count", "How many states there are", `  leveret -s xfrm state count`, words{}, c.stateCount),
	)
}

// syntax makes what a parser says of words the operator's.
func syntax(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err.Error()}
}

// parseState reads the words of a verb. Links are known to the appliance only: their names are kept for it.
func (c *cli) parseState(verb string, args []string) (*sad.Request, sad.Spec, error) {
	var link string
	r, err := sad.Parse(verb, args, sad.Outside{
		Link: func(name string) (int, bool) {
			link = name
			return 1, !strings.ContainsAny(name, " \t\n") // it goes among words
		},
		Key: c.keyReader(),
	})
	if err != nil {
		return nil, sad.Spec{}, syntax(err)
	}
	spec := sad.View{Keys: true, Link: func(int) string { return link }}.Spec(&r.State)
	if r.Sel == (selector.Selector{}) {
		spec.Sel = "" // none was given
	}
	return r, spec, nil
}

// maxKey bounds the file of a key, in octets.
const maxKey = 1 << 12

// keyReader returns what reads the files of keys; the standard input has one.
func (c *cli) keyReader() func(string) ([]byte, error) {
	taken := false
	return func(name string) ([]byte, error) {
		in := c.in
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return nil, nameless(err)
			}
			defer f.Close()
			in = f
		} else if taken {
			return nil, errors.New("the standard input has one key")
		}
		taken = taken || name == "-"
		b, err := io.ReadAll(io.LimitReader(in, maxKey+1))
		if err == nil && len(b) > maxKey {
			err = fmt.Errorf("it is longer than %d octets", maxKey)
		}
		return b, nameless(err)
	}
}

// nameless takes the name out of a file's error: it may be a key in the wrong place.
func nameless(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (c *cli) stateEdit(ctx context.Context, op string, args []string) error {
	_, spec, err := c.parseState(op, args)
	if err != nil {
		return err
	}
	return c.client().Post(ctx, "/v1/xfrm/state", xfrmapi.StateRequest{Op: op, Spec: spec}, nil)
}

func (c *cli) stateAllocSPI(ctx context.Context, args []string) error {
	r, spec, err := c.parseState("allocspi", args)
	if err != nil {
		return err
	}
	var out sad.Listed
	if err := c.client().Post(ctx, "/v1/xfrm/state", xfrmapi.StateRequest{Op: "allocspi", Spec: spec, Min: r.Min, Max: r.Max}, &out); err != nil {
		return err
	}
	return c.printStates([]sad.Listed{out})
}

func (c *cli) stateList(ctx context.Context, args []string) error {
	f, err := sad.ParseFilter(args)
	if err != nil {
		return syntax(err)
	}
	q := xfrmapi.NewStateFilter(&f)
	q.ShowKeys = when(c.showKeys && !f.NoKeys, "true")
	var out []sad.Listed
	if err := c.client().Get(ctx, "/v1/xfrm/state", q, &out); err != nil {
		return err
	}
	return c.printStates(out)
}

func (c *cli) stateGet(ctx context.Context, args []string) error {
	r, _, err := c.parseState("get", args)
	if err != nil {
		return err
	}
	q := xfrmapi.NewStateID(r)
	q.ShowKeys = when(c.showKeys, "true")
	var out sad.Listed
	if err := c.client().Get(ctx, "/v1/xfrm/state/get", q, &out); err != nil {
		return err
	}
	return c.printStates([]sad.Listed{out})
}

// localTimes makes times, where there are any, those of where the reader is.
func localTimes(times ...*time.Time) {
	for _, t := range times {
		if t != nil && !t.IsZero() {
			*t = t.Local()
		}
	}
}

// printStates prints states in iproute2's layout, which shows with -s what is not configured.
func (c *cli) printStates(list []sad.Listed) error {
	for i := range list {
		l := &list[i]
		localTimes(&l.Current.Added, l.Current.FirstUsed, l.Current.LastUsed)
		if c.json && c.stats == 0 {
			l.Lifetime, l.Current, l.Stats = sad.Lifetime{}, sad.Current{}, nil
		}
	}
	return each(c, list, func(l sad.Listed) error { return c.printText(l.Text(c.stats > 0)) })
}

func (c *cli) stateDeleteAll(ctx context.Context, args []string) error {
	f, err := sad.ParseFilter(args)
	if err != nil {
		return syntax(err)
	}
	var done xfrmapi.Flushed
	if err := c.client().Post(ctx, "/v1/xfrm/state/deleteall", xfrmapi.NewStateFilter(&f), &done); err != nil {
		return err
	}
	return c.printGone(done, deletedAll(done.Flushed))
}

// deletedAll is what iproute2 says of n deletions: it asks again until nothing is left.
func deletedAll(n int) string {
	text := "Delete-all round = 0\n"
	if n > 0 {
		text += fmt.Sprintf("Delete-all nlmsg count = %d\nDelete-all round = 1\n", n)
	}
	return text + "Delete-all completed\n"
}

func (c *cli) stateFlush(ctx context.Context, args []string) error {
	p, err := sad.ParseFlush(args)
	if err != nil {
		return syntax(err)
	}
	var done xfrmapi.Flushed
	if err := c.client().Post(ctx, "/v1/xfrm/state/flush", xfrmapi.StateFlush{Proto: p}, &done); err != nil {
		return err
	}
	name := "0"
	if p != 0 {
		name = p.String()
	}
	return c.printGone(done, fmt.Sprintf("Flush state with XFRM-PROTO value %q\n", name))
}

// printGone tells how much is gone with -j; as iproute2 does it says with -s twice what was done, to the standard error.
func (c *cli) printGone(done xfrmapi.Flushed, text string) error {
	if c.json {
		return c.printJSON(done)
	}
	if c.stats < 2 {
		return nil
	}
	_, err := io.WriteString(c.err, text)
	return err
}

func (c *cli) stateCount(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var n xfrmapi.StateCount
	if err := c.client().Get(ctx, "/v1/xfrm/state/count", nil, &n); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(n)
	}
	_, err := fmt.Fprintf(c.out, "\t SAD count %d%s\n", n.Count, when(c.stats > 0, fmt.Sprintf(" (buckets count %d Max %d)", n.Buckets, n.MaxBuckets)))
	return err
}
