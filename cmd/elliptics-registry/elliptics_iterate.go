package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func (f *storeFlags) iterateCommand() *cobra.Command {
	var (
		data, uncommitted bool
		from, to          string
		ranges            []string
		limit             uint64
	)
	cmd := &cobra.Command{
		Use:   "iterate",
		Short: "List all records of the groups",
		Long: `List all records of the groups, one group and one backend after the other. The
names of records are not stored anywhere: what is listed are their ids. What is
written meanwhile may be missing. Records that were begun and never committed
are listed with --uncommitted only.`,
		Args: cobra.NoArgs,
		RunE: f.run(func(cmd *cobra.Command, _ *elliptics.Node, s *elliptics.Session, _ []string) error {
			if data && !f.json {
				return errors.New("--data: needs --json, in which it is base64")
			}
			it := elliptics.Iteration{Data: data}
			var err error
			if it.From, err = timeFlag("from", from); err != nil {
				return err
			}
			if it.To, err = timeFlag("to", to); err != nil {
				return err
			}
			if it.Keys, err = rangeFlags(ranges); err != nil {
				return err
			}
			t := f.table(cmd.OutOrStdout(), "ID\tGROUP\tSIZE\tTIMESTAMP\tUSER FLAGS\tSERVER\tBACKEND")
			var errs []error
			listed := uint64(0)
		groups:
			for _, g := range s.Groups() {
				for e, err := range s.Iterate(cmd.Context(), g, it) {
					half := e.RecordFlags&wire.RecordUncommitted != 0
					switch {
					case err != nil:
						errs = append(errs, err)
						continue
					case half && !uncommitted:
						continue
					case limit > 0 && listed == limit:
						break groups
					}
					listed++
					doc := struct {
						ID          string `json:"id"`
						Group       uint32 `json:"group"`
						Size        uint64 `json:"size"`
						Timestamp   string `json:"timestamp"`
						UserFlags   uint64 `json:"user_flags"`
						Server      string `json:"server"`
						Backend     uint32 `json:"backend"`
						Uncommitted bool   `json:"uncommitted,omitempty"`
						Data        []byte `json:"data,omitempty"`
					}{e.Key.String(), g, e.Size, when(e.Timestamp), e.UserFlags, e.Backend.Remote, e.Backend.Backend, half, e.Data}
					if err := t.row(doc, "%s\t%d\t%d\t%s\t%d\t%s\t%d", doc.ID, g, e.Size, doc.Timestamp, e.UserFlags, doc.Server, doc.Backend); err != nil {
						return err
					}
					if t.text != nil && listed%100 == 0 { // a long list is not held back
						if err := t.text.Flush(); err != nil {
							return err
						}
					}
				}
			}
			return errors.Join(append(errs, t.end())...)
		}),
	}
	cmd.Flags().BoolVar(&data, "data", false, "print the data of the records as well")
	cmd.Flags().BoolVar(&uncommitted, "uncommitted", false, "list records that were never committed as well")
	cmd.Flags().StringVar(&from, "from", "", "first timestamp, as in 2006-01-02T15:04:05Z or in seconds since 1970 (`time`)")
	cmd.Flags().StringVar(&to, "to", "", "last timestamp (`time`)")
	cmd.Flags().StringArrayVar(&ranges, "range", nil, "`FIRST-LAST` ids, both included; leading digits are enough; may be given several times")
	cmd.Flags().Uint64Var(&limit, "limit", 0, "end after so many records (default: no limit)")
	return cmd
}

func timeFlag(name, value string) (elliptics.Time, error) {
	if value == "" {
		return elliptics.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, value); err == nil {
		return wire.TimeOf(t), nil
	}
	var sec uint64
	if n, err := fmt.Sscanf(value, "%d", &sec); n != 1 || err != nil || fmt.Sprint(sec) != value {
		return elliptics.Time{}, fmt.Errorf("--%s: bad value %q; expected a time as in 2006-01-02T15:04:05Z, or seconds since 1970", name, value)
	}
	return elliptics.Time{Sec: sec}, nil
}

// rangeFlags reads ranges of ids, of which the first digits are enough: the rest
// of the first id is zeros, and of the last one f.
func rangeFlags(values []string) (list []elliptics.KeyRange, err error) {
	for _, v := range values {
		first, last, ok := strings.Cut(v, "-")
		var r elliptics.KeyRange
		if ok {
			r.First, err = elliptics.ParseKey(first + strings.Repeat("0", max(0, 2*wire.IDSize-len(first))))
		}
		if ok && err == nil {
			r.Last, err = elliptics.ParseKey(last + strings.Repeat("f", max(0, 2*wire.IDSize-len(last))))
		}
		if !ok || err != nil || r.First.Compare(r.Last) > 0 {
			return nil, fmt.Errorf("--range: bad value %q; expected FIRST-LAST in hexadecimal digits, at most 128 each, as in 00-7f", v)
		}
		list = append(list, r)
	}
	return list, nil
}
