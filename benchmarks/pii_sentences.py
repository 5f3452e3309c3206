"""The sentences of the sample (pii_sample.py): those with a value at `{x}`, and lookalikes."""

from __future__ import annotations

HOLDING: dict[str, list[str]] = {
    "email": [
        "Write to {x}, please.", "请写信到{x}联系我。", "mailto:{x}?subject=hi", "Contact: <{x}>", "邮箱：{x}", "Ask {x}.",
        "git config user.email {x}", 'send(to="{x}", body=text)', "a: {x}; b: none", "From: Bob ({x})\nTo: all",
        "我的邮箱是 {x}，谢谢", "- {x}\n- nobody", "{x}", "Is {x}'s mailbox full?", "id,{x},active", "cc {x}/all", "**{x}**",
        "He signed as {x}: a surprise.", "INSERT INTO users VALUES (3, '{x}')", "\\n{x} wrote:",
    ],
    "phone": [
        "Ring {x} after nine.", "我的手机号是{x}，晚上打。", "电话 {x} 转 3", "Call me: {x}!", "WhatsApp {x}", "请拨打{x}。",
        "Reach Ann at {x}, or Bob.", 'phone = "{x}"', "Fax {x}\nBerlin", "联系人：王先生 {x}", "Text {x} to cancel.",
        "(day) {x} (night) none",
    ],
    "card": [
        "Charge {x} today.", "卡号{x}请核对", "Card: {x}, exp. 09/27", "我的银行卡是 {x}。", "paid with {x}\n",
        'card_number: "{x}"', "Is {x} still valid?", "{x}", "Visa {x} was declined", "从{x}扣款失败",
    ],
    "iban": [
        "Pay to {x} today.", "账户：{x}，谢谢", "IBAN {x}", "Bitte auf {x} überweisen.", "iban = '{x}'", "收款账号是{x}。",
        "{x}", "Our account ({x}) is new.",
    ],
    "ip": [
        "He came from {x}.", "服务器{x}不通", "ssh root at {x} failed", "The router has address {x}, the host none.",
        "GET / from {x} - 200", "日志显示来源地址为 {x}", "curl http://example.org -x {x}", "blocked: {x}", "allow from {x};",
        "IP：{x}",
    ],
    "national_id": [
        "His number is {x}.", "证件号{x}已登记", "ID {x} on file", "Applicant: Ann Lee, {x}", "持证人，{x}，女",
        "taxpayer {x}, born 1980", "号码为 {x} 的居民", "tax file: {x}\n",
    ],
    "secret": [
        "key {x} leaked", "令牌{x}泄露", "use {x} for it", "export KEY={x}", "我的密钥是 {x} 请删除", "cookie={x};",
        "login with `{x}`", '{"key": "{x}"}', "revoke {x}!", "{x}",
    ],
}  # fmt: skip
"""Kind → sentences with one of its values."""
ALIKE: dict[str, list[str]] = {
    "email": [
        "git clone git@github.com:acme/tool{#2}.git", "scp out{#2}.txt deploy@build.example:/srv/app",
        "rsync -av x/ root@db{#1}.example.net:backup/", "y = x@w.mean(axis={#1})", "loss = (pred@target.conj()).sum()",
        "out = a@b.dot(c) + {#3}", "npm i react@18.{#2}.1-beta.next", "open logo@{#1}x.png",
        "@app.route('/v{#1}')\ndef f(): ...", "docker pull user@sha256:{h64}", "uses: actions/checkout@v{#1}.1.main",
        "q@k.transpose(-2, -1) / math.sqrt(d)", "git remote add origin git@gitlab.example.com:team/app.git",
        "5@3.50 EUR each", "ssh admin@host{#1}.example.org", "在矩阵中计算 x@W.mean(0) 的值",
        "从 git@gitee.com:acme/demo{#2}.git 克隆", "A@B.T@C.inv()", "sftp backup@files.example.com:/var/log",
        "git push ssh://git@git.example.org/acme/x.git", "attn = q@k.mT * {#1}", "return@forEach.value",
        "logits = h@self.head.weight[:, {#2}]", "docker run registry/app@1.2.{#2}.build", "Follow @open.source on the site",
        "用户@{#2}楼 说得对", "user@localhost:~$ ls", "deploy@web.example.com:~$ uptime",
    ],
    "phone": [
        "What is 900-250-{#4} equal to?", "计算 13{#1}12345678 + 1 等于多少？", "Compute 415-220-{#4}.",
        "order no. 20{#2}12{#8}", "订单号：138{#8}，已发货", "Intel 8086 80286 80386 and 80486", "ISBN 978-0-306-40{#3}-7",
        "between 1939-1945 and 2001-2009", "2024-12-{#1} 10:30:45.{#6}", "x = 139{#8} * 2", "The hotel 1234{#3} was sold.",
        "part no. 415-220-{#4}", "version 410.220.{#4}", "timestamp 17{#8}", "身高{#3}，编号 2023{#7}",
        "1{#2},{#3},{#3} people", "3.14159{#9}", "/item/138{#8}", "SKU: 303-555-{#4}", "pages 100-200 and 300-{#3}",
        "f(212-555-{#4}) = {#2}", "600-400-1{#3}=?", "13800138000 ÷ 3 = 4600046000", "seed = 138{#8}",
        "invoice 617-200-{#4} is due",
    ],
    "card": [
        "4111 1111 1111 1112 fails its check digit", "4111111111111111 + {#2} = ?", "计算 4111111111111111 × {#1}",
        "1{#3} 2{#3} 3{#3} 1{#3}", "trace {h32}", "17{#14} ns", "0.4111111111111111", "order number 4111111111111111",
        "订单编号 4111111111111111", "550e8400-e29b-41d4-a716-{h12}", "What is 5500005555555559 / {#1}?",
        "pi = 3.1415926535{#6}",
    ],
    "iban": [
        "DE89 3704 0044 0532 0130 {#2}0 is wrong", "GB{#2} NWBK {#4}", "PART NO12 {#4} {#4}", "AA{#2}BB{#2}CC{#2}",
        "commit {h40}", "型号 DE89-{#4}-X", "FLIGHT BA{#4} AND LH{#3} TODAY", "the string AB12CD34EF56GH78",
    ],
    "ip": [
        "Version 1.2.3.{#1} follows 10.4.0.{#1}.", "见第3.2.1.{#1}节", "pip install foo==1.2.3.{#2}",
        "listens on 127.0.0.1:{#4}", "mask 255.255.255.0", "Chrome/96.0.45.{#2} Safari", "upgraded from 4.19.0.{#2} to 5",
        "OID 1.3.6.1.4.1.{#3}", "std::vector<int> and ::1", "aa:bb:cc:dd:ee:ff", "at 12:30:45:{#2}",
        "版本 12.0.1.{#2} 已发布", "v2.0.1.{#2}", "build 7.0.21.{#2}", "升级到 8.0.33.{#2} 之后",
        "300.1.2.{#1} is out of range",
    ],
    "national_id": [
        "What is 123-45-{#4}?", "123-45-6789 = {#2}", "计算 321-45-{#4}", "身份证 110105194912310021 的校验位不对",
        "000-12-{#4} is invalid", "2024-05-{#4}", "solve 500-25-1000 - x = {#2}", "part 219-09-{#4}", "111.222.333-{#2}4",
        "A{#6}(z)", "1{#16}", "求 219-09-1234 的结果", "ratio 123-45-67", "y = 321-54-{#4} # integer",
    ],
    "secret": [
        "token: see-the-documentation-of-v{#1}", "sk-learn-is-a-library-for-data", "api_key = os.environ['API_KEY_{#1}']",
        "token = self.tokenizer{#1}.encode_plus(text)", "token: aaaaaaaaaaaaaaaaaaaaaa{#1}",
        "secret = getSecretFromVault{#1}(name)", "api_key=<your-api-key-goes-here-{#1}>",
        "Bearer authentication is described in section {#2}", "commit {h40}", "hf_hub_download(repo_id='a/b')",
        "secret_key: change-me-please-{#2}", "sha256:{h64}", "ghp_ is the prefix of tokens",
        "令牌：请参见第{#2}页的说明文档内容", "access_token = response{#1}.json_data.access_token",
        "token = cfg.model_v{#1}.special_tokens.eos_token", "https://user:password@example.com/x",
        "postgres://app:${DB_PASSWORD}@db.example.com/x",
    ],
}  # fmt: skip
"""Kind → texts with lookalikes only; {#3} is three digits, {h40} forty hexadecimal digits."""
