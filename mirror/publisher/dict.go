package publisher

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/internal/durable"
	"tamizdat/transport/file"
)

// ErrNoGain: a dictionary would cost readers more than it saves.
var ErrNoGain = errors.New("a dictionary would not make editions smaller")

// dictName holds the dictionary that Pack may use. It is made of articles, and in the
// clear as they are on this machine.
const dictName = "dict.zstd"

// trainBytes bounds the text that a dictionary is made of, from the newest edition
// back: making it takes some 50 times as much memory, and old news helps little.
const trainBytes = 4 << 20

// dictSizes are tried in turn; what pays best is taken.
var dictSizes = []int{16 << 10, 32 << 10, 64 << 10, 110 << 10}

// Training is what TrainDictionary did.
type Training struct {
	// Articles are how many it was made of.
	Articles int
	// Size is the dictionary's in bytes, File that of the dict.age which the next
	// edition brings and later ones use again.
	Size, File int
	// Tested are the newest articles; a dictionary made of the others alone brought
	// them from Before to After bytes.
	Tested, Before, After int
}

// TrainDictionary makes a dictionary from the newest editions' articles, for the
// editions from the next one on. ErrNoGain or bundle.ErrFewArticles: none was
// made, and the one before stays.
func (p *Publisher) TrainDictionary() (*Training, error) {
	articles, editions, err := p.recent()
	if err != nil {
		return nil, err
	}
	// The newest fifth stands for the news to come.
	cut := len(articles) * 4 / 5
	var best *Training
	most := 0
	for _, size := range dictSizes {
		d, err := bundle.TrainDictionary(articles[:cut], size)
		if err != nil {
			return nil, err
		}
		t := &Training{Articles: len(articles), Size: size, File: d.FileSize(), Tested: len(articles) - cut}
		if t.Before, t.After, err = d.Gain(articles[cut:]); err != nil {
			return nil, err
		}
		edition := (t.Before - t.After) * len(articles) / t.Tested / editions
		if net := edition*bundle.DictionaryUses - t.File; net > most {
			best, most = t, net
		}
	}
	if best == nil {
		return nil, ErrNoGain
	}
	d, err := bundle.TrainDictionary(articles, best.Size)
	if err != nil {
		return nil, err
	}
	best.Size, best.File = len(d.Bytes()), d.FileSize()
	return best, durable.Write(filepath.Join(p.dir, dictName), 0o600, d.Bytes())
}

// DropDictionary has editions go without a dictionary from the next one on; false if
// they do already.
func (p *Publisher) DropDictionary() (bool, error) {
	err := os.Remove(filepath.Join(p.dir, dictName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, cmp.Or(err, durable.SyncDir(p.dir))
}

// recent reads back what was packed last, oldest first, each article as it stands
// now and without those taken back, and says from how many editions they are.
func (p *Publisher) recent() (articles []bundle.Article, editions int, err error) {
	seen := map[string]bool{}
	for n := p.Size(); n > 0; n-- {
		f := p.editions[n-1].Front
		if f == nil { // hollow
			continue
		}
		for _, id := range f.Gone {
			seen[id] = true
		}
		for _, old := range f.Replaces {
			seen[old] = true
		}
	}
	total := 0
	for n := p.Size(); n > 0 && total < trainBytes; n-- {
		if p.editions[n-1].hollow() {
			continue
		}
		vol, err := p.volume(n - 1)
		if err != nil {
			return nil, 0, err
		}
		editions++
		for i := range p.editions[n-1].Front.Articles {
			e := &p.editions[n-1].Front.Articles[i]
			if e.Edition != n-1 || seen[e.ID] || total >= trainBytes {
				continue
			}
			a, err := vol.Article(e)
			if err != nil {
				return nil, 0, fmt.Errorf("edition %d: %w", n-1, err)
			}
			seen[e.ID] = true
			articles, total = append(articles, *a), total+len(a.Body)
		}
	}
	slices.Reverse(articles)
	return articles, editions, nil
}

// volume opens edition n as a reader would.
func (p *Publisher) volume(n uint64) (*bundle.Volume, error) {
	src, err := file.Open(p.carName(n))
	if err != nil {
		return nil, err
	}
	e := &p.editions[n]
	return &bundle.Volume{
		Channel: p.Channel(), Edition: n, Root: e.leaf.Root, Key: p.keys.Epochs[e.leaf.Epoch], Dict: e.Front.Dict, Get: src.Block,
	}, nil
}

// dictBlocks are the blocks of edition n's dict.age.
func (p *Publisher) dictBlocks(n uint64) (map[cid.Cid]bool, error) {
	vol, err := p.volume(n)
	if err != nil {
		return nil, err
	}
	leaves, _, err := vol.Layer(bundle.LayerDict)
	held := map[cid.Cid]bool{}
	for _, l := range leaves {
		held[l.File], held[l.CID] = true, true
	}
	return held, err
}

// dictionary is what the next edition's texts may be compressed with, and its file
// as the last edition that used one has it.
func (p *Publisher) dictionary() (*bundle.Dictionary, *bundle.DictFile, error) {
	b, err := os.ReadFile(filepath.Join(p.dir, dictName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	d, err := bundle.ParseDictionary(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w; make it anew: mirror-publish dict train", dictName, err)
	}
	for n := p.Size(); n > 0; n-- {
		e := &p.editions[n-1]
		if e.Front == nil || e.Front.Dict == nil || e.hollow() {
			continue
		}
		vol, err := p.volume(n - 1)
		if err != nil {
			return nil, nil, err
		}
		var out bytes.Buffer
		_, err = vol.Copy(&out, bundle.LayerDict)
		return d, &bundle.DictFile{Edition: e.Front.Dict.Edition, Epoch: e.leaf.Epoch, File: out.Bytes()}, err
	}
	return d, nil, nil
}
