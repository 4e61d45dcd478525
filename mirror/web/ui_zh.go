package web

import (
	"time"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

var chinese = &catalogue{
	tag: "zh", dir: "ltr", name: "中文", lang: language.SimplifiedChinese, zero: '0',
	day: func(t time.Time) string { return t.Format("2006年1月2日") },
	spans: map[string]map[plural.Form]string{
		"minute": {plural.Other: "%s 分钟"}, "hour": {plural.Other: "%s 小时"}, "day": {plural.Other: "%s 天"},
		"month": {plural.Other: "%s 个月"}, "year": {plural.Other: "%s 年"},
	},
	weekdays: [7]string{"星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"},
	texts: map[string]string{
		"name": "笔记", "skip": "跳到正文", "leave": "离开", "home": "头版", "status": "状态", "menu": "页面",
		"interface": "本页语言", "all": "全部", "languages": "语言", "search": "搜索", "search.do": "查找",
		"found": "搜索结果", "unread": "只看未读", "unread.off": "显示全部", "new": "新", "headline": "目前只有标题",
		"ago": "%s前", "now": "刚刚", "age": "最新一期：%s前", "age.now": "最新一期：刚刚",
		"clock":   "这台设备的时钟似乎不准。新闻照常显示，但时间可能有误。",
		"syncing": "正在查找新闻……", "sync": "现在查找新闻", "next": "更早", "first": "回到最新",
		"lead": "最新", "rest": "更多", "pictures": "有图片",
		"bytes": "字节", "KB": "KB", "MB": "MB", "GB": "GB",

		"empty.nochannel": "还没有可读的内容", "empty.nochannel.text": "这个书库还没有关注任何频道。新闻随邀请而来：用命令“mirror add”添加邀请，然后回到这里。",
		"empty.waiting": "还没有收到内容", "empty.waiting.text": "频道已经添加；新闻正在路上，或者所有通路暂时被阻断。您不需要做任何事，程序会自动反复尝试。收到的内容会一直留在这里。",
		"empty.nothing": "没有找到", "empty.nothing.text": "这台设备上没有包含这些词的标题或正文，或者当前的筛选中没有内容。", "empty.clear": "显示全部",

		"back": "返回列表", "source": "原文地址", "source.warn": "打开这个地址会连接到公开的互联网。监视您网络的人会看到。",
		"links": "文中提到的地址", "picture": "图片", "picture.missing": "图片尚未到达",
		"pictures.missing": "这篇文章的图片还没有到达。", "pictures.fetch": "获取图片", "pictures.asked": "正在获取图片。请稍后刷新本页。", "pictures.failed": "图片没有送达：目前没有可传送图片的通路，或者已达到您设定的流量上限。请稍后再试。",
		"notext": "正文还没有到达", "notext.text": "目前这里只有标题。只要有一条通路打开，正文就会到达。",
		"mark.unread": "标为未读", "links.warn": "地址以纯文本显示，以免误触打开。",

		"status.title": "当前状况", "status.channels": "频道", "status.paths": "通路", "status.none": "还不知道任何通路。",
		"status.last": "上次查找新闻：%s", "status.never": "程序启动后还没有查找过新闻。",
		"status.blocked": "目前没有可用的通路。已经收到的内容仍然可以阅读，程序会自动继续尝试。",
		"status.one":     "只要有一条通路畅通就够了：每条通路带来的都是同样的、经过核对的新闻。",
		"status.lied":    "有一条通路送来了假内容。它已被识破并丢弃：您在这里读到的都经过核对。一天之内，只在其他通路都问过之后才会再问它；您不需要做任何事。",
		"status.older":   "有一条通路提供了较旧的一期。它没有被采用：您手里的更新。通路滞后时会这样；您不需要做任何事。",
		"edition":        "期号", "articles": "文章", "unread.count": "未读", "nothing.yet": "还没有收到内容", "of": "共",
		"path": "通路", "kind": "类型", "state": "状态", "last": "上次送达", "brought": "已送达", "never": "还没有",
		"path.working": "畅通", "path.blocked": "被阻断", "path.resting": "暂歇", "path.lied": "送来了假内容", "path.forked": "出示了另一份历史", "path.untried": "尚未尝试",
		"kind.quic": "中继，QUIC", "kind.tcp": "中继，TCP", "kind.gateway": "网关", "kind.ipfs": "IPFS", "kind.dns": "DNS", "kind.file": "文件",

		"today":                   "今天 %s",
		"fresh.current":           "%s通过 %s 个独立来源核对过。您看到的是最新的新闻。",
		"fresh.nothing":           "%s通过 %s 个独立来源核对过。没有更新的内容。",
		"fresh.nothing.one":       "%s核对过，只通过一条通路。没有更新的内容。",
		"fresh.one":               "%s核对过。只有一个来源表明这是最新的。有第二个来源会更可靠。",
		"fresh.behind":            "%s核对过。有更新的新闻，但还没有送达。程序会自动继续尝试。",
		"fresh.unchecked":         "上次核对：%s。可能有更新的新闻。",
		"fresh.unasked":           "还没有问过任何来源是否有更新的新闻。",
		"fresh.unreached":         "自%s以来联系不上任何来源。您看到的内容来自%s。",
		"fresh.unreached.ever":    "至今联系不上任何来源。您看到的内容来自%s。",
		"fresh.unreached.nothing": "至今联系不上任何来源。程序会自动继续尝试。",
		"fresh.frozen":            "可能有人不让您看到更新的新闻。各处给您看的最新内容来自%s。请换一个网络，或向朋友要一个文件。",
		"fresh.forked":            "有人在向不同的读者展示不同的新闻。在通过其他方式得到发布者的消息之前，请不要相信这个频道。证据已经保存；把它写入文件的命令：",
		"fresh.proof":             "请把这个文件交给发布者，或交给能让大家知道的人：任何人都可以用本程序核对它，不需要邀请。文件里有频道的标识，但没有您的邀请中的任何内容。",
		"fresh.rekeyed":           "这个频道的发布者已经更换了被盗的密钥。用它签署而并非出自发布者的内容，已经从本设备收回。证据已经保存；把它写入文件的命令：",
		"fresh.first":             "本设备上目前只有这个频道的一期。从下一期起就能看出以前各期是否被改动过。",
		"fresh.witnessed":         "已有 %s 个见证者看到（共 %s 个）。",
		"fresh.unwitnessed":       "已有 %s 个见证者看到（共 %s 个），本频道要求 %s 个：不太能确定所有人看到的都一样。",
		"fresh.file":              "来自文件，%s。文件无法得知是否有更新的新闻。",
		"fresh.clockoff":          "如果您觉得不对，请查看这台设备的日期：它的时钟可能快了。",
		"fresh.title":             "内容有多新", "fresh.sources": "一致的来源", "fresh.checked": "上次回应", "fresh.signed": "签署时间", "fresh.rhythm": "通常多久有新内容", "showed": "展示过的最新内容",

		"event.title": "最近发生的事", "event.start": "开始查找新闻", "event.asked": "已询问", "event.first": "最先回应", "event.answered": "已回应", "event.turned": "有更新的内容",
		"event.brought.head": "送来最新一期的信息", "event.brought.headlines": "送来标题", "event.brought.text": "送来正文", "event.brought.images": "送来图片", "event.brought.rest": "送来其余内容",
		"event.doubled": "替较慢的通路帮忙", "event.failed": "失败；稍后再试", "event.dropped": "多次失败；暂不使用", "event.lied": "送来了假内容；不再使用",
		"event.new": "完成：有新内容", "event.same": "完成：没有更新的内容", "event.file": "文件里没有更新的内容", "event.pictures": "正在获取一篇文章的图片", "event.pictured": "图片已送达", "event.unpictured": "图片没有送达", "event.nobody": "没有任何回应", "event.incomplete": "部分新闻还没有送达", "event.limit": "已达到您设定的流量上限",
		"stage.head": "询问最新一期", "stage.headlines": "标题", "stage.text": "正文", "stage.images": "图片", "stage.rest": "其余内容", "persecond": "/秒",
		"work.from": "来自 %s", "work.more": "来自 %s 和另外 %s 条通路", "work.left": "大约还需 %s", "work.soon": "不到 1 分钟就好",
		"notext.asked": "正在优先获取这篇正文。请稍后刷新本页。", "notext.fetch": "先获取这篇正文", "event.cost": "只有 DNS 可用，正文需要", "cost.queries": "大约 %s 次 DNS 查询", "cost.bytes": "上行 %s，下行 %s", "lacks": "尚未到达的正文", "cost": "只有 DNS 可用时所需",
		"live.on": "实时查看", "live.off": "停止实时查看",

		"forbidden.title": "这个页面已关闭", "forbidden.text": "它只能通过程序启动时显示的链接打开，而且只能在这台设备上打开。", "forbidden.todo": "请重新启动程序并使用新的链接。没有丢失任何内容。",
		"gone.lately": "发布者最近撤回的文章：%s 篇。它们已从这里删除。", "corrected": "更正于%s",
		"gone.title": "这篇文章已被撤回", "gone.text": "发布者在%s的那一期撤回了它，它已从本设备删除。", "gone.todo": "其他内容都在头版。",
		"missing.title": "这里没有这个内容", "missing.text": "它可能已被发布者撤回，或者地址有误。", "missing.todo": "其他内容都在头版。",
		"trouble.title": "这台设备出了点问题", "trouble.text": "页面无法生成。没有向任何地方发送任何内容，这也不是您造成的。", "trouble.todo": "请再试一次。如果仍然如此，请关闭程序后重新启动。",
		"damaged.title": "书库的一部分已损坏", "damaged.text": "这台设备上保存的某些内容无法再读取。没有向任何地方发送任何内容，也不会用虚假新闻代替。", "damaged.todo": "请关闭程序后重新启动。如果仍然如此，请清除书库并重新添加邀请：新闻可以重新获取。",
		"full.title": "磁盘已满", "full.text": "这台设备上没有空间再保存内容。", "full.todo": "请腾出一些空间后再试。已经收到的内容仍在这里。",
		"panel.title": "没有成功", "panel.text": "开关没有切换。", "panel.todo": "请返回再试。",
	},
}
